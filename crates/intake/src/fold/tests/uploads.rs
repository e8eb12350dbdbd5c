//! Files in pieces: each piece once, and whole once.

use muster_types::{UploadBlock, UploadNo};

use super::super::{MAX_UPLOADS, UploadDone};
use super::*;

fn block(rig: &mut Rig, upload: u64, index: u32, count: u32) {
    let bytes = Bytes::from(format!("{upload}.{index}"));
    let block = UploadBlock { upload: UploadNo(upload), index, count, bytes };
    rig.tell(Repeat::Idempotent, vec![Fact::Block(block)]);
}

fn stored(rig: &Rig) -> Vec<(u64, u32)> {
    rig.sink.blocks.iter().map(|(upload, index, _)| (*upload, *index)).collect()
}

#[test]
fn blocks_are_stored_once_and_the_last_one_makes_it_whole() {
    let mut rig = Rig::new(AgentKind::Osquery);
    for index in [0, 1, 1, 0] {
        block(&mut rig, 5, index, 3);
        rig.restart();
    }
    assert!(rig.state.take_uploads_done().is_empty());
    block(&mut rig, 5, 2, 3);
    let done = UploadDone { upload: UploadNo(5), agent: AGENT, byte_count: 9 };
    assert_eq!(rig.state.take_uploads_done(), [done]);
    rig.restart();
    block(&mut rig, 5, 2, 3);
    assert!(rig.state.take_uploads_done().is_empty(), "told once");
    assert_eq!(stored(&rig), [(5, 0), (5, 1), (5, 2)]);
    assert_eq!(rig.sink.blocks[1].2, b"5.1");
}

#[test]
fn blocks_that_cannot_be_are_refused() {
    let mut rig = Rig::new(AgentKind::Osquery);
    block(&mut rig, 5, 3, 3);
    block(&mut rig, 5, 0, 0);
    block(&mut rig, 6, 0, 2);
    block(&mut rig, 6, 1, 3);
    assert_eq!(stored(&rig), [(6, 0)]);
    assert_eq!(rig.sink.errors.len(), 3, "{:?}", rig.sink.errors);
    assert!(rig.sink.errors[0].starts_with("upload: block 3 of upload 5"));
}

#[test]
fn what_is_remembered_of_uploads_has_a_bound() {
    let mut rig = Rig::new(AgentKind::Osquery);
    for upload in 0..200 {
        block(&mut rig, upload, 0, 2);
    }
    let known = rig.state.agents.get(AGENT.local()).unwrap().uploads.len();
    assert_eq!(known, MAX_UPLOADS);
    for index in 0..1000 {
        block(&mut rig, 999, index * 2, 5000);
    }
    assert!(rig.sink.errors.last().unwrap().contains("too many blocks before it are missing"));
}

#[test]
fn a_dropped_note_is_an_error_of_the_agent() {
    let mut rig = Rig::new(AgentKind::Osquery);
    let note = Fact::Dropped { source: "log".into(), message: "5 lines".into() };
    rig.tell(Repeat::Idempotent, vec![note]);
    assert_eq!(rig.sink.errors, ["log: 5 lines"]);
}
