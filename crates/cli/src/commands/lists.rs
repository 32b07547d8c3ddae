//! `odeon status | hosts | names | actors | troupes | workers | types | links`: what the agent knows, as tables or JSON.

use crate::{
    args::{LinksCommand, WorkersCommand},
    client::Client,
    failure::Outcome,
    output,
};
use serde_json::{Value, json};

/// `odeon status`
pub(crate) async fn status(client: &Client, as_json: bool) -> Outcome {
    let status = client.admin(json!({ "command": "status" })).await?;
    if as_json {
        output::json(&status);
        return Ok(());
    }
    let voters = status["voters"].as_array().map_or(0, Vec::len);
    let failover = if status["failover"] == true {
        "yes".to_owned()
    } else {
        format!("no ({voters} voter{})", if voters == 1 { "" } else { "s" })
    };
    let row = |head: &str, text: String| output::line(format!("{head:<12}{text}"));
    row("convention", output::cell(&status["convention"]));
    row("leader", output::cell(&status["leader"]));
    row("voters", output::cell(&status["voters"]));
    if status["stand_bys"].as_array().is_some_and(|hosts| !hosts.is_empty()) {
        row("stand-bys", output::cell(&status["stand_bys"]));
    }
    row("hosts", format!("{} ({} up)", output::cell(&status["hosts"]), output::cell(&status["up"])));
    row("names", output::cell(&status["names"]));
    row("actors", output::cell(&status["actors"]));
    row("failover", failover);
    Ok(())
}

/// A list that has a command, columns and a word for when it is empty.
struct List {
    command: &'static str,
    columns: &'static [(&'static str, &'static str)],
    empty: &'static str,
}

const HOSTS: List = List {
    command: "hosts",
    columns: &[
        ("NAME", "name"),
        ("STATE", "state"),
        ("ROLE", "role"),
        ("ADDRESS", "address"),
        ("ACTORS", "actors"),
        ("WORKERS", "workers"),
        ("CAPABILITIES", "capabilities"),
    ],
    empty: "no hosts",
};
const NAMES: List = List {
    command: "names",
    columns: &[("NAME", "name"), ("STATE", "state"), ("HOST", "host"), ("EPOCH", "epoch"), ("TYPE", "type")],
    empty: "no global names",
};
const ACTORS: List = List {
    command: "actors",
    columns: &[
        ("ADDRESS", "address"),
        ("TYPE", "type"),
        ("NAME", "name"),
        ("HOST", "host"),
        ("WORKER", "worker"),
        ("MAILBOX", "mailbox"),
        ("HANDLED", "handled"),
    ],
    empty: "no actors",
};
const TROUPES: List = List {
    command: "troupes",
    columns: &[("ADDRESS", "address"), ("TYPE", "type"), ("MAX", "max"), ("MEMBERS", "members")],
    empty: "no troupes",
};
const WORKERS: List = List {
    command: "workers",
    columns: &[
        ("ID", "id"),
        ("NAME", "name"),
        ("STATE", "state"),
        ("PID", "pid"),
        ("ACTORS", "actors"),
        ("RESTARTS", "restarts"),
        ("TYPES", "types"),
        ("LISTENS", "listeners"),
    ],
    empty: "no workers",
};
const TYPES: List =
    List { command: "types", columns: &[("TYPE", "type"), ("TAKES", "takes")], empty: "no actor types" };

const LINKS: List = List {
    command: "links",
    columns: &[("HOST", "host"), ("STATE", "state"), ("QUEUED", "queued")],
    empty: "no links: nothing was sent to another host",
};

async fn show(client: &Client, list: &List, as_json: bool) -> Outcome {
    let items = client.admin(json!({ "command": list.command })).await?;
    if as_json {
        output::json(&items);
    } else {
        output::list(&items, list.columns, list.empty);
    }
    Ok(())
}

/// `odeon hosts`
pub(crate) async fn hosts(client: &Client, as_json: bool) -> Outcome {
    show(client, &HOSTS, as_json).await
}

/// `odeon names`
pub(crate) async fn names(client: &Client, as_json: bool) -> Outcome {
    show(client, &NAMES, as_json).await
}

/// `odeon actors`
pub(crate) async fn actors(client: &Client, as_json: bool) -> Outcome {
    show(client, &ACTORS, as_json).await
}

/// `odeon troupes`
pub(crate) async fn troupes(client: &Client, as_json: bool) -> Outcome {
    show(client, &TROUPES, as_json).await
}

/// `odeon types`
pub(crate) async fn types(client: &Client, as_json: bool) -> Outcome {
    show(client, &TYPES, as_json).await
}

/// `odeon workers [stop|restart ID]`
pub(crate) async fn workers(client: &Client, command: Option<WorkersCommand>, as_json: bool) -> Outcome {
    let (verb, id) = match command {
        None => return show(client, &WORKERS, as_json).await,
        Some(WorkersCommand::Stop { id }) => ("stop", id),
        Some(WorkersCommand::Restart { id }) => ("restart", id),
    };
    let done = client.admin(json!({ "command": format!("workers {verb}"), "id": id })).await?;
    print_done(&done, as_json, &format!("worker {id}: {verb} begun"));
    Ok(())
}

/// `odeon links [close HOST]`
pub(crate) async fn links(client: &Client, command: Option<LinksCommand>, as_json: bool) -> Outcome {
    let Some(LinksCommand::Close { name }) = command else { return show(client, &LINKS, as_json).await };
    let done = client.admin(json!({ "command": "links close", "host": name })).await?;
    print_done(&done, as_json, &format!("the data connection to {name} is closed; the next one carries on"));
    Ok(())
}

/// Prints what an administrative command answered, or a line for people.
pub(crate) fn print_done(answer: &Value, as_json: bool, line: &str) {
    if as_json {
        output::json(answer);
    } else {
        output::line(line);
    }
}
