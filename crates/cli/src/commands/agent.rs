//! `odeon agent`: runs this host's agent in the foreground.
//!
//! Settings come from the flag, else the environment, else `--config FILE`, else the default. At SIGHUP an agent with
//! such a file reads it again and takes its capabilities.

use crate::{
    args::AgentArgs,
    commands::{settings, worker},
    failure::{Code, Failure, Outcome},
    signals,
};
use odeon_node::{Agent, Config, Ended, StartError, convention};
use std::{
    io::{IsTerminal, Read, stderr, stdin},
    pin::pin,
};
use tokio::sync::oneshot;

/// Runs until SIGTERM, SIGINT or the agent's own end, then stops gracefully; a second signal ends at once. Where the
/// convention has given a start of the agent up, for it was cut off for too long, the next one begins.
pub(crate) async fn run(args: AgentArgs) -> Outcome {
    start_log();
    let mut input_ended = pin!(end_of_input(args.stop_on_eof)?);
    let embed = args.embed.clone();
    let mut hangups = signals::Hangups::new(args.config.is_some())?;
    let mut config = settings::read(args.clone())?;
    loop {
        let embedded = embed.as_deref().map(worker::built_in).transpose()?;
        let agent = tokio::select! {
            started = Agent::start(config.clone()) => started.map_err(|error| failure(&error))?,
            stop = signals::wait() => return stop,
            () = &mut input_ended => return Ok(()),
        };
        let _embedded = match embedded {
            Some(worker) => Some(worker.attach(agent.connect()).await.map_err(Failure::failed)?),
            None => None,
        };
        let mut stop = pin!(signals::wait());
        let ended = loop {
            tokio::select! {
                ended = agent.wait() => break ended,
                stop = &mut stop => {
                    stop?;
                    return stop_gracefully(&agent).await;
                }
                () = &mut input_ended => return stop_gracefully(&agent).await,
                () = hangups.next() => config = read_again(&agent, config, args.clone()),
            }
        };
        match ended {
            Err(Ended::BootOver) => tracing::info!("the agent begins a new start"),
            ended => return ended.map_err(|why| failure_of_end(&why)),
        }
    }
}

/// Reads the settings again; the agent takes the capabilities. Of what is wrong with them nothing is taken.
fn read_again(agent: &Agent, config: Config, args: AgentArgs) -> Config {
    let read = settings::read(args)
        .map_err(|failure| failure.text)
        .and_then(|new| new.validate().map(|()| new).map_err(|error| error.to_string()));
    let new = match read {
        Ok(new) => new,
        Err(why) => {
            tracing::error!("SIGHUP: nothing is changed: {why}");
            return config;
        }
    };
    let later = settings::need_a_start(&config, &new);
    if !later.is_empty() {
        tracing::warn!("SIGHUP: a change of {} takes the agent's next start: restart it", later.join(", "));
    }
    agent.configure_capabilities(new.capabilities.clone());
    Config { capabilities: new.capabilities, ..config }
}

async fn stop_gracefully(agent: &Agent) -> Outcome {
    tracing::info!("stopping; a second signal stops at once");
    tokio::select! {
        _ = agent.stop() => Ok(()),
        second = signals::wait() => second.and(Err(Failure::failed("agent: stopped at once: what was running was not waited for"))),
    }
}

fn failure(error: &StartError) -> Failure {
    let code = match error {
        StartError::Config(_) => Code::Usage,
        StartError::Convention(
            convention::StartError::Refused(_)
            | convention::StartError::NotFounder(_)
            | convention::StartError::Superseded(_)
            | convention::StartError::TokenOfAnother { .. }
            | convention::StartError::NoTokenFile { .. },
        ) => Code::Refused,
        _ => Code::Failed,
    };
    Failure::new(code, format!("agent: {error}"))
}

fn failure_of_end(why: &Ended) -> Failure {
    let code = match why {
        Ended::NotMember | Ended::Superseded | Ended::Outdated { .. } => Code::Refused,
        _ => Code::Failed,
    };
    Failure::new(code, format!("agent: {why}"))
}

/// Resolves at the end of standard input, or never if that is not asked for.
fn end_of_input(asked: bool) -> Result<impl Future<Output = ()>, Failure> {
    let (sender, ended) = oneshot::channel::<()>();
    if asked {
        // Reading a pipe blocks; the thread ends with the input or with the process.
        let read = move || {
            let mut input = stdin().lock();
            while !matches!(input.read(&mut [0; 64]), Ok(0) | Err(_)) {}
            drop(sender);
        };
        std::thread::Builder::new().name("stdin".into()).spawn(read).map_err(Failure::failed)?;
        return Ok(wait(ended, None));
    }
    Ok(wait(ended, Some(sender)))
}

async fn wait(ended: oneshot::Receiver<()>, kept: Option<oneshot::Sender<()>>) {
    // The sender never sends: it is dropped at the end of the input, or kept for good.
    let _ = ended.await;
    drop(kept);
}

/// Logs go to standard error; `RUST_LOG` chooses, `info` without it.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,openraft=off,quinn=warn"));
    let colours = stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_ansi(colours).init();
}
