use super::*;
use odeon_cluster::directory::{Convention, Joiner, Role, Secret};
use odeon_protocol::{Boot, ConventionId, NodeId};
use openraft::{
    EntryPayload, LeaderId, RaftLogReader, RaftSnapshotBuilder,
    storage::{RaftLogStorage, RaftLogStorageExt, RaftStateMachine},
    testing::{StoreBuilder, Suite},
};
use std::path::Path;
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

#[tokio::test]
async fn a_file_that_is_none_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("directory.redb");
    std::fs::write(&path, b"this is no database").unwrap();
    let error = open(&Medium::File(path.clone()), Arc::new(watch::Sender::new(0))).err().unwrap().to_string();
    assert!(error.contains("directory.redb") && error.contains("restore it"), "{error}");
}
