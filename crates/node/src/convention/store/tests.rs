use super::*;
use odeon_cluster::directory::{Convention, Joiner, Role, Secret, Token, TokenId};
use odeon_protocol::{Boot, ConventionId, NodeId, level::FEATURE_LEVEL};
use openraft::{
    EntryPayload, LeaderId, RaftLogReader, RaftSnapshotBuilder,
    storage::{RaftLogStorage, RaftLogStorageExt, RaftStateMachine},
    testing::{StoreBuilder, Suite},
};
use std::{collections::BTreeSet, path::Path, time::Duration};
use tempfile::TempDir;
use tokio::sync::watch;

fn open_in(dir: &Path) -> (Log, SharedMachine) {
    open(&Medium::File(dir.join("directory.redb")), Arc::new(watch::Sender::new(0))).unwrap()
}

struct Builder;

impl StoreBuilder<TypeConfig, Log, SharedMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, Log, SharedMachine), StorageError> {
        let dir = tempfile::tempdir().unwrap();
        let (log, machine) = open_in(dir.path());
        Ok((dir, log, machine))
    }
}

#[test]
fn openrafts_own_suite_is_passed() {
    Suite::test_all(Builder).unwrap();
}

fn founding() -> Command {
    let founder = Joiner {
        node: NodeId(1),
        key_hash: [1; 32],
        name: "one".into(),
        address: "one:7400".into(),
        boot: Boot(1),
        role: Role::Voter,
        witness: false,
        level: FEATURE_LEVEL,
    };
    let convention = Convention { id: ConventionId(1), ca_cert: vec![1] };
    Command::Found { convention, ca_key: Secret(b"hush".to_vec()), founder }
}

fn entry(index: u64, commands: Vec<Command>) -> Entry {
    let log_id = LogId::new(LeaderId::new(1, 1), index);
    Entry { log_id, payload: EntryPayload::Normal(Batch(Arc::new(commands))) }
}

#[tokio::test]
async fn what_was_written_is_there_after_the_file_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let vote = Vote::new(3, 1);
    {
        let (mut log, mut machine) = open_in(dir.path());
        assert!(log.is_pristine());
        log.save_vote(&vote).await.unwrap();
        log.blocking_append([entry(1, vec![founding()]), entry(2, Vec::new()), entry(3, Vec::new())]).await.unwrap();
        machine.apply([entry(1, vec![founding()])]).await.unwrap();
        machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
        log.purge(LogId::new(LeaderId::new(1, 1), 1)).await.unwrap();
        log.truncate(LogId::new(LeaderId::new(1, 1), 3)).await.unwrap();
        log.close().await;
    }
    let (mut log, mut machine) = open_in(dir.path());
    assert!(!log.is_pristine());
    assert_eq!(log.read_vote().await.unwrap(), Some(vote));
    let kept: Vec<u64> = log.try_get_log_entries(..).await.unwrap().iter().map(|entry| entry.log_id.index).collect();
    assert_eq!(kept, [2]);
    let state = log.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id.map(|id| id.index), Some(1));
    let (applied, _) = machine.applied_state().await.unwrap();
    assert_eq!(applied.map(|id| id.index), Some(1));
    let directory = &machine.read().directory;
    assert!(directory.convention().is_some() && directory.ca_key().is_some(), "the snapshot has the secrets");
}

#[tokio::test(start_paused = true)]
async fn what_a_full_disk_does_not_take_waits_for_room() {
    let disk = Disk::default();
    let reopen = || open(&Medium::Simulated(disk.clone()), Arc::new(watch::Sender::new(0))).unwrap();
    let (mut log, _machine) = reopen();
    log.blocking_append([entry(0, vec![founding()])]).await.unwrap();
    disk.set_full(true);
    let mut other = log.clone();
    let append = tokio::spawn(async move { other.blocking_append([entry(1, Vec::new())]).await });
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(log.is_full() && !append.is_finished());
    disk.set_full(false);
    append.await.unwrap().unwrap();
    assert!(!log.is_full());
    log.save_vote(&Vote::new(2, 1)).await.unwrap();
    log.close().await;
    let (mut log, _machine) = reopen();
    let kept: Vec<u64> = log.try_get_log_entries(..).await.unwrap().iter().map(|entry| entry.log_id.index).collect();
    assert_eq!(kept, [0, 1]);
    // Whoever ends does not wait for room, and nothing is written behind what was not.
    disk.set_full(true);
    log.await_no_room();
    log.blocking_append([entry(2, Vec::new())]).await.unwrap_err();
    disk.set_full(false);
    log.save_vote(&Vote::new(3, 1)).await.unwrap_err();
    log.close().await;
    assert_eq!(reopen().0.read_vote().await.unwrap(), Some(Vote::new(2, 1)));
}

#[tokio::test]
async fn a_file_that_is_none_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("directory.redb");
    std::fs::write(&path, b"this is no database").unwrap();
    let error = open(&Medium::File(path.clone()), Arc::new(watch::Sender::new(0))).err().unwrap().to_string();
    assert!(error.contains("directory.redb") && error.contains("restore it"), "{error}");
}

/// What a build of the next feature level has left: the log was raised to it, and then came what this build cannot read.
async fn of_a_later_build(dir: &Path, raised: bool) -> std::path::PathBuf {
    let (mut log, _) = open_in(dir);
    let raise = Command::RaiseLevel { level: FEATURE_LEVEL + 1, voters: Vec::new() };
    let commands = if raised { vec![raise] } else { Vec::new() };
    log.blocking_append([entry(0, vec![founding()]), entry(1, commands)]).await.unwrap();
    log.close().await;
    let path = dir.join("directory.redb");
    let database = redb::Database::open(&path).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(redb::TableDefinition::<u64, &[u8]>::new("log")).unwrap().insert(2, &[0xff; 9][..]).unwrap();
    write.commit().unwrap();
    path
}

fn refused(path: &Path) -> String {
    open(&Medium::File(path.to_owned()), Arc::new(watch::Sender::new(0))).err().unwrap().to_string()
}

#[tokio::test]
async fn a_log_that_a_later_build_wrote_is_refused_with_its_level() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let said = refused(&of_a_later_build(dirs[0].path(), true).await);
    assert!(said.contains(&format!("start an Odeon of level {} or later", FEATURE_LEVEL + 1)), "{said}");
    let said = refused(&of_a_later_build(dirs[1].path(), false).await);
    assert!(said.contains("a log entry does not decode"), "{said}");
}

#[tokio::test]
async fn a_snapshot_of_a_higher_level_is_refused_although_it_reads() {
    let dir = tempfile::tempdir().unwrap();
    let Command::Found { convention, ca_key, founder } = founding() else { unreachable!() };
    let founder = Joiner { level: FEATURE_LEVEL + 1, ..founder };
    let mut directory = odeon_cluster::Directory::default();
    directory.apply(&Command::Found { convention, ca_key, founder });
    directory.apply(&Command::RaiseLevel { level: FEATURE_LEVEL + 1, voters: Vec::new() });
    let path = dir.path().join("directory.redb");
    Beginning { directory, voter: NodeId(1), term: 1, index: 1, recovery: 0 }.write(&path).unwrap();
    let kept = Kept::read(&path);
    assert!(matches!(kept, Err(OpenError::Later { .. })), "{kept:?}");
    let said = refused(&path);
    assert!(said.contains(&format!("this Odeon is of level {FEATURE_LEVEL}: start an Odeon of level")), "{said}");
}

/// A file whose log goes beyond what is known to be committed.
async fn survivor(dir: &Path) -> std::path::PathBuf {
    let (mut log, _) = open_in(dir);
    // A fourth host stands by.
    let voters = openraft::Membership::new(vec![BTreeSet::from([1, 2, 3])], BTreeSet::from([1, 2, 3, 4]));
    let first = Entry { log_id: LogId::new(LeaderId::new(1, 1), 0), payload: EntryPayload::Membership(voters) };
    let token = |id| Token { id: TokenId(id), role: Role::Voter, admin: false, expires: 9, uses: None };
    let create = |id| Command::CreateToken { token: token(id), secret: Secret(vec![7; 32]), now: 0 };
    log.save_vote(&Vote::new(4, 2)).await.unwrap();
    let entries = [first, entry(1, vec![founding()]), entry(2, vec![create(1)]), entry(3, vec![create(2)])];
    log.save_committed(Some(entries[2].log_id)).await.unwrap();
    log.blocking_append(entries).await.unwrap();
    log.close().await;
    dir.join("directory.redb")
}

#[tokio::test]
async fn all_that_a_survivor_has_is_read_committed_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let kept = Kept::read(&survivor(dir.path()).await).unwrap();
    assert_eq!(kept.directory.tokens().count(), 2);
    assert_eq!((kept.last, kept.committed, kept.term, kept.recovery), (Some(3), Some(2), 4, 0));
    assert_eq!(kept.voters, [1, 2, 3].map(NodeId).into());
    assert_eq!(kept.nodes, [1, 2, 3, 4].map(NodeId).into());
}

#[tokio::test]
async fn a_log_with_a_gap_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open_in(dir.path());
    log.blocking_append([entry(0, vec![founding()]), entry(2, Vec::new())]).await.unwrap();
    log.close().await;
    let refused = Kept::read(&dir.path().join("directory.redb")).unwrap_err().to_string();
    assert!(refused.contains("gap before entry 2"), "{refused}");
}

#[tokio::test]
async fn a_group_that_begins_anew_has_one_voter_and_later_terms() {
    let dir = tempfile::tempdir().unwrap();
    let kept = Kept::read(&survivor(dir.path()).await).unwrap();
    let new = dir.path().join("anew");
    std::fs::create_dir(&new).unwrap();
    let beginning =
        Beginning { directory: kept.directory.clone(), voter: NodeId(1), term: 1 << 32, index: 4, recovery: 9 };
    let path = new.join("directory.redb");
    beginning.write(&path).unwrap();
    assert!(beginning.write(&path).is_err(), "nothing is overwritten");
    let (mut log, mut machine) = open_in(&new);
    assert_eq!((log.recovery(), log.is_pristine()), (9, false));
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(1 << 32, 1)));
    let (applied, membership) = machine.applied_state().await.unwrap();
    assert_eq!(applied.map(|id| (id.leader_id.term, id.index)), Some((1 << 32, 4)));
    assert_eq!(membership.voter_ids().collect::<Vec<_>>(), [1]);
    assert_eq!(machine.read().directory, kept.directory);
    log.close().await;
    let again = Kept::read(&path).unwrap();
    assert_eq!((again.last, again.term, again.recovery), (Some(4), 1 << 32, 9));
}

#[test]
fn the_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    drop(open_in(dir.path()));
    let about = std::fs::metadata(dir.path().join("directory.redb")).unwrap();
    assert_eq!(about.permissions().mode() & 0o777, 0o600);
}
