//! Messages that came back, heard of on any host.

mod common;

use common::{Host, Process, agent, hosts, join, until};
use odeon_protocol::{
    Address, DeadLetter, Direct, Reason, Serial,
    control::{Policy, ToAgent},
    directory::Role,
    frame::{Codec, Frame, Header, Kind},
    hash::fnv1a,
};
use std::time::Duration;

/// A tell to an actor that has never been on that process's host.
fn to_nobody(process: &Process, body: &[u8]) -> (Direct, Frame) {
    let nobody = process.place(Serial(Serial::first_of(900).0 + 1));
    let header = Header {
        to: nobody,
        from: process.me(),
        codec: Codec::Postcard,
        type_id: fnv1a("test.Message"),
        ..Header::new(Kind::Tell)
    };
    (nobody, Frame::new(header, &[], body))
}

fn listen(process: &Process, listen: bool) {
    process.say(&ToAgent::ListenDeadLetters { listen });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_on_one_host_is_heard_on_another_while_somebody_listens() {
    let hosts = hosts(2).await;
    let (near, far) = (Process::client(&hosts[0].agent).await, Process::client(&hosts[1].agent).await);
    let _worker = Process::worker(&hosts[1].agent, &[("t.taker", Policy::default())]).await;
    hosts[0].sees_type("t.taker").await;
    // Nobody listens: nothing is told, now or later.
    near.send(&to_nobody(&near, b"before").1);
    near.back(0).await;
    listen(&far, true);
    near.letters_wanted(true, 1).await;

    let (nobody, frame) = to_nobody(&near, &[7; 5000]);
    near.send(&frame);
    let letter = far.letter(0).await;
    assert_eq!((&*letter.host, letter.reason, letter.may_have_run), ("h1", Reason::NoSuchActor, false));
    assert_eq!((&letter.from, &letter.to), (&Address::from(near.me()), &Address::from(nobody)));
    assert_eq!(&*letter.message, "test.Message", "the listener's host knows the name");
    assert_eq!((letter.codec, letter.body.len(), letter.body_bytes), (Codec::Postcard, 4096, 5000));
    assert!(letter.text.contains("no such actor") && letter.is_cut(), "{letter:?}");
    assert_eq!(near.back(0).await.header.kind, Kind::Returned, "its sender has it as ever");

    // Within one process; where it came back is for its agent to say.
    near.say(&ToAgent::DeadLetter(Box::new(DeadLetter { host: "elsewhere".into(), missed: 3, ..letter.clone() })));
    let letter = far.letter(1).await;
    assert_eq!((&*letter.host, letter.missed, letter.body_bytes), ("h1", 3, 5000));
    assert!(near.letters().is_empty(), "who does not listen hears nothing");

    listen(&far, false);
    near.letters_wanted(false, 1).await;
    near.send(&to_nobody(&near, b"after").1);
    near.back(0).await;
    listen(&far, true);
    near.letters_wanted(true, 2).await;
    near.send(&to_nobody(&near, b"again").1);
    assert_eq!(far.letter(2).await.body, b"again", "what came back meanwhile is not told of");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_dies_ends_the_telling_and_hosts_that_join_later_tell() {
    let (first, dir) = agent("h1").await;
    let first = Host::new(first, dir);
    let token =
        first.agent.convention().create_token(Role::Voter, Duration::from_secs(600), None).await.expect("a token");
    let listener = Process::client(&first.agent).await;
    listen(&listener, true);
    listener.letters_wanted(true, 1).await;
    let second = join(&first, "h2", &token).await;
    assert!(second.agent.ready().await);
    let late = Process::client(&second.agent).await;
    late.letters_wanted(true, 1).await;
    // To a name that nobody bears, from one host to the other and back.
    late.send(&late.named(Kind::Tell, "t.nobody/k", false, 0));
    let letter = listener.letter(0).await;
    assert_eq!((&*letter.host, &letter.to), ("h2", &Address::named("t.nobody/k", false)));
    listener.die().await;
    late.letters_wanted(false, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_so_many_a_second_are_counted_instead() {
    let (agent, _dir) = agent("h1").await;
    let (sender, listener) = (Process::client(&agent).await, Process::client(&agent).await);
    listen(&listener, true);
    sender.letters_wanted(true, 1).await;
    let send = |number: usize| sender.send(&to_nobody(&sender, number.to_string().as_bytes()).1);
    let mut sent = 0;
    while sent < 3000 {
        send(sent);
        sent += 1;
    }
    // Sooner or later one passes again, and says how many did not.
    let (heard, letter) = until("a letter that says how many are missing", || {
        send(sent);
        sent += 1;
        listener.letters().into_iter().enumerate().find(|(_, letter)| letter.missed > 0)
    })
    .await;
    let number = heard + usize::try_from(letter.missed).unwrap();
    assert_eq!(letter.body, number.to_string().as_bytes());
    assert!(letter.missed >= 1000, "{letter:?}");
}
