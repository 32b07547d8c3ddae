use super::*;

const HOUR: i64 = 3600;

#[track_caller]
fn good(finding: &Finding, part: &str) {
    assert!(finding.ok && finding.text.contains(part), "{finding:?}");
}

#[track_caller]
fn look_at(finding: &Finding, parts: &[&str]) {
    assert!(!finding.ok, "{finding:?}");
    assert_eq!(parts.iter().find(|part| !finding.text.contains(**part)), None, "{finding:?}");
}

#[test]
fn certificates() {
    let of = |left_s, renewal_in_s| certificate(Certificate { left_s, renewal_in_s });
    good(&of(20 * HOUR, 12 * HOUR), "holds for 20 h; is renewed in 12 h");
    good(&of(8 * HOUR, -30), "is renewed now");
    look_at(&of(6 * HOUR, -2 * HOUR), &["overdue since 2 h", "in 6 h it ends", "any voter"]);
    look_at(&of(-3 * HOUR, -11 * HOUR), &["ended 3 h ago", "refuse this one"]);
}

#[test]
fn sockets() {
    let full = Socket { send_bytes: 4 << 20, receive_bytes: 4 << 20, wanted_bytes: 4 << 20, segments: 64 };
    let [buffers, batches] = socket(&full);
    good(&buffers, "4 MiB to send and 4 MiB to receive");
    good(&batches, "up to 64 packets");
    let [buffers, batches] = socket(&Socket { receive_bytes: 212_992, segments: 1, ..full });
    look_at(&buffers, &["208 KiB to receive", "4 MiB were asked for", "sysctl -w net.core.rmem_max=4194304"]);
    look_at(&batches, &["off", "processor time", "Linux 4.18"]);
}

#[test]
fn data_directories() {
    let well = Disk { path: "/data".into(), bytes: 100 << 30, free_bytes: 50 << 30, ..Disk::default() };
    good(&data_directory(&well), "/data has 50.0 GiB free of 100.0 GiB");
    look_at(&data_directory(&Disk { free_bytes: 4 << 30, ..well.clone() }), &["4.0 GiB free", "make room"]);
    look_at(&data_directory(&Disk { bytes: 2 << 30, free_bytes: 1 << 29, ..well.clone() }), &["512 MiB free"]);
    good(&data_directory(&Disk { free_bytes: 5 << 30, ..well.clone() }), "5.0 GiB free");
    let exposed = Disk { exposed: vec!["identity.json".into(), "directory.redb".into()], ..well.clone() };
    look_at(&data_directory(&exposed), &["identity.json and directory.redb", "chmod 700 /data"]);
    let failed = Disk { failed: Some("Permission denied".into()), ..well };
    look_at(&data_directory(&failed), &["/data: a test write failed: Permission denied", "owner"]);
}

#[test]
fn writes() {
    let took = |p99_us| disk_writes(Writes { count: 50, median_us: 1500, p99_us });
    good(&took(100_000), "1.5 ms (median), 100 ms (p99), of 50 tried");
    look_at(&took(100_001), &["100 ms (p99)", "a voter", "leases", "SSD"]);
}

#[test]
fn limits_of_open_files() {
    good(&open_files(Some(1024)), "1024");
    good(&open_files(None), "no limit");
    look_at(&open_files(Some(256)), &["256", "ulimit -n 4096", "LimitNOFILE"]);
}
