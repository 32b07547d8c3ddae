//! `#[actor]`: every form of handler and hook, on a system in this process.

use odeon::{Actor, ChildExited, Deferred, FromKey, OnStop, ReplyTo, Restart, Troupe, prelude::*};

#[message(reply = u64)]
struct Add {
    by: u64,
}
#[message(reply = u64)]
struct AddSlowly {
    by: u64,
}
#[message]
struct Reset;
#[message]
struct Check {
    expected: u64,
}
#[message(reply = u64)]
struct Later;
#[message]
struct Release;

/// A number, with a handler of every form.
#[derive(Default)]
struct Counter {
    value: u64,
    waiting: Vec<ReplyTo<u64>>,
}

#[actor("macros.counter")]
impl Counter {
    /// Adds at once.
    fn add(&mut self, add: Add) -> u64 {
        self.value += add.by;
        self.value
    }

    async fn add_slowly(&mut self, add: AddSlowly, ctx: &mut Context<Self>) -> u64 {
        ctx.yield_now().await;
        self.value += add.by;
        self.value
    }

    fn reset(&mut self, _: Reset) {
        self.value = 0;
    }

    async fn check(&self, check: Check) -> Result<(), String> {
        let Check { expected } = check;
        if self.value == expected { Ok(()) } else { Err(format!("{} is not {expected}", self.value)) }
    }

    fn later(&mut self, _: Later, ctx: &mut Context<Self>) -> Deferred {
        let (reply, deferred) = ctx.defer::<u64>();
        self.waiting.push(reply);
        deferred
    }

    fn release(&mut self, _: Release) {
        for reply in self.waiting.drain(..) {
            reply.send(self.value);
        }
    }
}

/// Passes on what it is asked.
struct Front {
    counter: ActorRef<Counter>,
}

#[actor("macros.front")]
impl Front {
    fn start(counter: ActorRef<Counter>) -> Self {
        Self { counter }
    }

    fn add(&mut self, add: Add, ctx: &mut Context<Self>) -> Forwarded {
        ctx.forward(&self.counter, add)
    }

    async fn add_slowly(&mut self, add: AddSlowly, ctx: &mut Context<Self>) -> odeon::Result<Forwarded> {
        if add.by == 0 {
            return Err(Error::other("nothing to add"));
        }
        Ok(ctx.forward(&self.counter, add))
    }
}

#[tokio::test]
async fn a_handler_may_answer_in_every_way() -> odeon::Result {
    let system = System::local();
    let counter = system.create::<Counter>(()).await?;
    assert_eq!(counter.add(Add { by: 2 }).await?, 2);
    assert_eq!(counter.ask(AddSlowly { by: 3 }).await?, 5);
    counter.check(Check { expected: 5 }).await?;
    let error = counter.check(Check { expected: 6 }).await.unwrap_err();
    assert!(matches!(error, Error::Handler(_)) && error.to_string().contains("5 is not 6"), "{error}");
    counter.reset(Reset).tell().await?;
    counter.check(Check { expected: 0 }).await?;
    system.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_reply_may_come_later_or_from_somebody_else() -> odeon::Result {
    let system = System::local();
    let counter = system.create::<Counter>(()).await?;
    let front = system.create::<Front>(counter.clone()).await?;
    assert_eq!(front.add(Add { by: 4 }).await?, 4);
    assert_eq!(front.add_slowly(AddSlowly { by: 1 }).await?, 5);
    let error = front.add_slowly(AddSlowly { by: 0 }).await.unwrap_err();
    assert!(error.to_string().contains("nothing to add"), "{error}");
    let asked = counter.clone();
    let later = tokio::spawn(async move { asked.later(Later).await });
    // The ask may not have arrived yet; a release without anybody waiting does nothing.
    while !later.is_finished() {
        counter.release(Release).await?;
        tokio::task::yield_now().await;
    }
    assert_eq!(later.await.map_err(Error::other)??, 5);
    system.stop().await;
    Ok(())
}

#[message(reply = Vec<String>)]
struct Diary;
#[message]
struct Hire;
#[message]
struct Fire;

/// Writes its life down.
struct Diarist {
    diary: Vec<String>,
    child: Option<ActorRef<Child>>,
}

#[actor("macros.diarist")]
impl Diarist {
    async fn start(name: String, ctx: &mut Context<Self>) -> odeon::Result<Self> {
        if name == "nobody" {
            return Err(Error::NotFound);
        }
        let key = ctx.name().map(ToString::to_string).unwrap_or_default();
        Ok(Self { diary: vec![format!("start {name} as {key}")], child: None })
    }

    fn started(&mut self) {
        self.diary.push("started".into());
    }

    fn child_exited(&mut self, exit: ChildExited) -> odeon::Result {
        self.diary.push(format!("child {}", exit.cause));
        Ok(())
    }

    async fn hire(&mut self, _: Hire, ctx: &mut Context<Self>) -> odeon::Result {
        self.child = Some(ctx.create::<Child>(ctx.me()).await?);
        Ok(())
    }

    fn fire(&mut self, _: Fire) {
        if let Some(child) = self.child.take() {
            child.stop();
        }
    }

    fn diary(&mut self, _: Diary) -> Vec<String> {
        self.diary.clone()
    }

    fn write(&mut self, line: Line) {
        self.diary.push(line.0);
    }
}

#[message]
struct Line(String);

struct Child {
    parent: ActorRef<Diarist>,
}

#[actor("macros.child")]
impl Child {
    fn start(parent: ActorRef<Diarist>) -> odeon::Result<Self> {
        Ok(Self { parent })
    }

    async fn stopping(&mut self, _ctx: &mut Context<Self>) -> odeon::Result {
        self.parent.tell(Line("good bye".into())).await?;
        Ok(())
    }
}

#[tokio::test]
async fn hooks_run_when_they_should() -> odeon::Result {
    let system = System::local().register::<Diarist>();
    let diarist = system.named::<Diarist>("pepys");
    diarist.hire(Hire).await?;
    diarist.fire(Fire).await?;
    let diary = loop {
        let diary = diarist.diary(Diary).await?;
        if diary.len() >= 4 {
            break diary;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(diary, ["start pepys as pepys", "started", "good bye", "child stopped"]);
    let error = system.named::<Diarist>("nobody").diary(Diary).await.unwrap_err();
    assert!(!error.may_have_run(), "{error}");
    assert!(system.find::<Diarist>("nobody").await?.is_none(), "a start that finds nothing leaves no name behind");
    system.stop().await;
    Ok(())
}

#[derive(Default)]
struct Declared;
#[actor(
    "macros.declared",
    on_stop = dormant,
    restart(max = 3, within = "10s"),
    troupe(max = 16, idle = 2),
    mailbox = 256,
    blocking,
    isolation = "process",
    requires = "gpu >= 1"
)]
impl Declared {}

#[test]
fn the_attribute_is_the_types_options() {
    let options = Declared::options();
    assert_eq!(Declared::TYPE, "macros.declared");
    assert_eq!(options.on_stop, OnStop::Dormant);
    assert_eq!(options.restart, Restart::UpTo { max: 3, within_ms: 10_000 });
    assert_eq!(options.troupe, Some(Troupe { max: 16, idle: 2 }));
    assert_eq!((options.mailbox, options.blocking, options.own_process), (256, true, true));
    assert_eq!(options.requires, "gpu >= 1");
    assert_eq!(Counter::options().on_stop, OnStop::Free);
}

#[data]
struct Cell {
    x: i32,
    y: i32,
}
impl FromKey for Cell {
    fn from_key(key: &str) -> odeon::Result<Self> {
        let (x, y) = key.split_once(',').ok_or_else(|| Error::other("a cell's key is `x,y`"))?;
        Ok(Self { x: i32::from_key(x)?, y: i32::from_key(y)? })
    }
}
#[data]
struct Unkeyed;

struct Board;
#[actor("macros.board")]
impl Board {
    fn start(_: Cell) -> Self {
        Self
    }
}
struct Created;
#[actor("macros.created")]
impl Created {
    fn start(_: Unkeyed, _ctx: &mut Context<Self>) -> Self {
        Self
    }
}

#[test]
fn arguments_come_from_the_key_where_they_can() {
    let cell = Board::args_from_key("3,-4").unwrap();
    assert_eq!((cell.x, cell.y), (3, -4));
    assert!(Board::args_from_key("3").err().unwrap().to_string().contains("macros.board/3"));
    let error = Created::args_from_key("7").err().unwrap().to_string();
    assert!(error.contains("macros.created/7") && error.contains("Unkeyed does not implement"), "{error}");
}
