//! The one binary, `odeon`: runs an agent, and talks to one.

mod args;
mod bench_actors;
mod client;
mod commands;
mod failure;
mod local_hosts;
mod output;
mod signals;

use args::{Cli, Command, Global};
use clap::Parser;
use client::Client;
use commands::{
    agent, bench, capability, dead_letters, demo, dev, doctor, hosts, lists, membership, messages, recovery, token,
    worker,
};
use failure::{Failure, Outcome};
use std::{path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(cli: Cli) -> Outcome {
    // A worker brings its own runtime.
    if let Command::Worker { name } = &cli.command {
        return worker::run(name);
    }
    let threads = if matches!(cli.command, Command::Bench(_)) { 2 } else { 1 };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start the runtime: {error}")))?;
    // On the main thread, which lives as long as the process: children are tied to the thread that made them.
    runtime.block_on(dispatch(cli))
}

async fn dispatch(cli: Cli) -> Outcome {
    let Cli { global, command } = cli;
    let json = global.json;
    match command {
        Command::Agent(args) => agent::run(*args).await,
        Command::Dev(args) => dev::run(args, json).await,
        Command::Demo(args) => demo::run(args, json).await,
        Command::Bench(args) => bench::run(args, json).await,
        Command::Doctor => doctor::run(connect(&global).await, &socket(&global), json).await,
        Command::Recover { data, yes } => recovery::recover(data, yes, json).await,
        Command::Restore { file, data, name } => recovery::restore(&file, &data, &name, json),
        Command::Worker { name } => worker::run(&name),
        Command::DeadLetters => dead_letters::run(&socket(&global), json).await,
        Command::Hosts { watch: true } => hosts::watch(&socket(&global), json).await,
        other => talk(&connect(&global).await?, other, json).await,
    }
}

/// The commands that are a conversation with the agent.
async fn talk(client: &Client, command: Command, json: bool) -> Outcome {
    match command {
        Command::Token(command) => token::run(client, command, json).await,
        Command::Status => lists::status(client, json).await,
        Command::Hosts { .. } => lists::hosts(client, json).await,
        Command::Names => lists::names(client, json).await,
        Command::Actors => lists::actors(client, json).await,
        Command::Troupes => lists::troupes(client, json).await,
        Command::Workers { command } => lists::workers(client, command, json).await,
        Command::Types => lists::types(client, json).await,
        Command::Links { command } => lists::links(client, command, json).await,
        Command::Capability(command) => capability::run(client, command, json).await,
        Command::Run { path, args } => membership::run(client, &path, &args, json).await,
        Command::Create(args) => messages::create(client, args, json).await,
        Command::Ask { target, message, fields, timeout } => {
            messages::ask(client, &target, &message, fields.as_deref(), timeout).await
        }
        Command::Tell { target, message, fields } => {
            messages::tell(client, &target, &message, fields.as_deref(), json).await
        }
        Command::Stop { target } => messages::stop(client, &target, json).await,
        Command::Evict { name } => membership::evict(client, &name, json).await,
        Command::Leave => membership::leave(client, json).await,
        Command::Backup { file, force } => recovery::backup(client, &file, force, json).await,
        Command::Health => membership::health(client, json).await,
        #[cfg(feature = "next-level")]
        Command::Note { text } => membership::note(client, text, json).await,
        Command::Agent(_)
        | Command::Dev(_)
        | Command::Demo(_)
        | Command::Bench(_)
        | Command::Doctor
        | Command::Recover { .. }
        | Command::Restore { .. }
        | Command::DeadLetters
        | Command::Worker { .. } => Ok(()),
    }
}

async fn connect(global: &Global) -> Result<Client, Failure> {
    Client::connect(&socket(global)).await
}

fn socket(global: &Global) -> PathBuf {
    if let Some(host) = &global.host {
        return local_hosts::dev_directory().join(host).join("agent.sock");
    }
    global.agent.clone().unwrap_or_else(|| local_hosts::state_directory().join("agent.sock"))
}
