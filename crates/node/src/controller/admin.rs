//! What operators ask: lists, tokens, workers. JSON both ways, the same for the command line and for HTTP.

use super::{CALL_WAIT, Controller, refusal};
use crate::{config::WorkerCommand, doctor, recovery::BackupError};
use odeon_protocol::{
    Address, Direct, NodeId, Reason, WorkerId,
    control::{ActorInfo, FromAgent, Refusal, Value as Fact},
    directory::{Role, TokenId},
    peer::{PeerReply, PeerRequest},
};
use serde_json::{Value, json};
use std::{path::PathBuf, time::Duration};

/// Called once, with the answer.
pub(crate) type AdminReply = Box<dyn FnOnce(Result<Value, Refusal>) + Send>;

impl Controller {
    pub(super) fn on_admin(&mut self, process: WorkerId, request: u64, json: &str) {
        let router = self.parts.router.clone();
        let reply: AdminReply = Box::new(move |result| {
            let result = result.map(|value| value.to_string());
            router.control(process, &FromAgent::Admin { request, result });
        });
        match serde_json::from_str(json) {
            Ok(request) => self.admin(&request, reply),
            Err(error) => reply(Err(refusal(Reason::Protocol, format!("the request is no JSON: {error}")))),
        }
    }

    /// Does what an operator asks.
    pub(crate) fn admin(&mut self, request: &Value, reply: AdminReply) {
        let command = request["command"].as_str().unwrap_or_default();
        match command {
            "status" => self.status(reply),
            "hosts" => reply(Ok(self.host_list())),
            "names" => reply(Ok(self.name_list())),
            "actors" => self.actor_list(reply),
            "troupes" => reply(Ok(self.troupe_list().into())),
            "workers" => reply(Ok(self.worker_list())),
            "types" => reply(Ok(self.type_list())),
            "links" => reply(Ok(self.link_list())),
            "links close" => reply(self.close_link(request)),
            "health" => reply(Ok(self.health())),
            "doctor" => self.doctor(reply),
            "run" => reply(self.run_worker(request)),
            "workers stop" => reply(self.tell_worker(request, false)),
            "workers restart" => reply(self.tell_worker(request, true)),
            "stop" => self.stop_actor(request, reply),
            "token create" => self.token_create(request, reply),
            "token list" => reply(Ok(self.token_list())),
            "token revoke" => self.token_revoke(request, reply),
            "capability set" | "capability unset" => reply(self.capability_change(request)),
            "capability list" => reply(Ok(self.capability_list())),
            "evict" => self.evict(request, reply),
            "leave" => self.leave(reply),
            "backup" => self.backup(request, reply),
            #[cfg(feature = "next-level")]
            "note" => self.note(request, reply),
            other => reply(Err(refusal(Reason::Protocol, format!("{other:?} is no request that this agent knows")))),
        }
    }
}

/// Lists.
impl Controller {
    fn status(&self, reply: AdminReply) {
        let status = self.parts.convention.status();
        let actors: u64 = self.parts.convention.hosts().iter().map(|host| host.load.actors).sum();
        reply(Ok(json!({
            "convention": status.convention.to_string(),
            "leader": status.leader,
            "voters": status.voters,
            "stand_bys": status.stand_bys,
            "hosts": status.hosts,
            "up": status.up,
            "names": status.names,
            "actors": actors,
            "failover": status.failover,
            "suspicions": self.parts.convention.suspicions(),
            "host": self.parts.config.name,
            "messages": self.message_totals(),
        })));
    }

    fn host_list(&self) -> Value {
        let mut members = self.parts.convention.members();
        members.sort_by(|one, other| one.name.cmp(&other.name));
        let entries = members.into_iter().map(|host| {
            let (load, capabilities) = if host.node == self.me() {
                (self.own_load(), self.capabilities().clone())
            } else {
                ((host.load.actors, host.load.workers as usize), host.capabilities)
            };
            json!({
                "name": host.name,
                "id": host.node.to_string(),
                "boot": host.boot.to_string(),
                "state": host.state.word(),
                "role": host.role.word(),
                "address": host.address,
                "capabilities": capabilities.into_iter().map(|(key, value)| (key, fact(&value))).collect::<serde_json::Map<_, _>>(),
                "actors": load.0,
                "workers": load.1,
            })
        });
        entries.collect()
    }

    fn own_load(&self) -> (u64, usize) {
        (self.workers.values().map(|worker| worker.actors).sum(), self.workers.len())
    }

    fn name_list(&self) -> Value {
        let records: Vec<_> = self.parts.convention.directory(|directory| directory.names().cloned().collect());
        let entries = records.into_iter().map(|record| {
            json!({
                "name": record.name,
                "type": record.declaration.type_name,
                "host": self.host_name(record.host),
                "epoch": record.epoch,
                "state": record.state.word(),
            })
        });
        entries.collect()
    }

    /// The actors of all hosts that answer.
    fn actor_list(&mut self, reply: AdminReply) {
        let own = self.list_actors();
        let (me, boot) = (self.me(), self.parts.convention.boot());
        let others: Vec<_> = self.hosts().into_iter().filter(|host| host.node != me && host.load.workers > 0).collect();
        let (convention, own_name) = (self.parts.convention.clone(), self.parts.config.name.clone());
        let asked = others.into_iter().map(|host| {
            let convention = convention.clone();
            tokio::spawn(async move {
                match convention.call(host.node, PeerRequest::Actors, CALL_WAIT).await {
                    Ok(PeerReply::Actors(actors)) => actor_entries((host.node, host.boot), &host.name, &actors),
                    _ => Vec::new(),
                }
            })
        });
        let asked: Vec<_> = asked.collect();
        let gathered = async move {
            let mut all = actor_entries((me, boot), &own_name, &own.await.unwrap_or_default());
            for host in asked {
                all.extend(host.await.unwrap_or_default());
            }
            all
        };
        self.begin(gathered, move |_, all| reply(Ok(all.into())));
    }

    fn worker_list(&self) -> Value {
        let entries = self.units.iter().map(|(id, unit)| {
            let worker = unit.worker.and_then(|worker| self.workers.get(&worker));
            json!({
                "id": unit.worker.map(|worker| worker.to_string()),
                "name": worker.map_or_else(|| unit.command.name(), |worker| worker.name.clone()),
                "path": unit.command.path,
                "state": unit.state.word(),
                "pid": (unit.pid != 0).then_some(unit.pid),
                "actors": worker.map_or(0, |worker| worker.actors),
                "restarts": unit.starts.saturating_sub(1),
                "types": unit.types,
                "listeners": self.listeners.of(*id).into_iter().map(|(name, address)| (name, address.into())).collect::<serde_json::Map<_, _>>(),
                "why": unit.why,
                "own_process": unit.dedicated,
                "messages": worker.map(|worker| worker.said.to_json()),
            })
        });
        entries.collect()
    }

    fn type_list(&self) -> Value {
        let entries = self.types.infos().into_iter().map(|info| {
            let takes: Vec<_> = info.messages.iter().map(|message| message.name.clone()).collect();
            json!({ "type": info.name, "takes": takes, "requires": info.policy.requires })
        });
        entries.collect()
    }

    fn link_list(&self) -> Value {
        let entries = self.parts.convention.links().into_iter().map(|link| {
            json!({
                "host": self.host_name(link.node),
                "id": link.node.to_string(),
                "boot": link.boot.to_string(),
                "state": if link.connected { "up" } else { "down" },
                "queued": link.queued,
            })
        });
        entries.collect()
    }

    fn doctor(&self, reply: AdminReply) {
        let looked = doctor::gather(self.parts.convention.clone(), self.parts.config.data.clone(), self.disk.clone());
        self.begin(looked, move |_, facts| {
            let facts = serde_json::to_value(facts);
            reply(facts.map_err(|error| refusal(Reason::Failed, error.to_string())));
        });
    }

    fn health(&self) -> Value {
        let waiting = self.parts.registered.borrow().clone();
        let ready = self.parts.metrics.ready.get() == 1;
        let waiting = (!ready).then(|| waiting.unwrap_or_else(|| "its place in the convention".to_owned()));
        json!({ "ready": ready, "waiting_for": waiting })
    }
}

/// Workers and actors.
impl Controller {
    fn run_worker(&mut self, request: &Value) -> Result<Value, Refusal> {
        let path = text(request, "path")?;
        let args =
            request["args"].as_array().map(|args| args.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        if self.parts.config.witness {
            return Err(refusal(Reason::NoHost, "this host is a witness and runs no workers"));
        }
        let metadata = std::fs::metadata(path);
        let executable = metadata.as_ref().is_ok_and(|file| {
            use std::os::unix::fs::PermissionsExt as _;
            file.is_file() && file.permissions().mode() & 0o111 != 0
        });
        if !executable {
            let why =
                metadata.map_or_else(|error| error.to_string(), |_| "it is not executable: chmod +x it".to_owned());
            return Err(refusal(Reason::StartFailed, format!("{path}: {why}")));
        }
        let command = WorkerCommand { path: path.into(), args: args.unwrap_or_default() };
        // The id that its first process will be given; nobody else takes one meanwhile unless it starts now.
        let unit = self.start_unit(command, false);
        self.report_registered();
        Ok(json!({ "id": format!("u{unit}"), "path": path }))
    }

    fn tell_worker(&mut self, request: &Value, restart: bool) -> Result<Value, Refusal> {
        let id = text(request, "id")?;
        let unknown = || refusal(Reason::NoSuchActor, format!("{id}: there is no such worker: see `odeon workers`"));
        let order = if restart { crate::workers::Order::Restart } else { crate::workers::Order::Stop };
        let number = |prefix| id.strip_prefix(prefix).and_then(|number| number.parse::<u32>().ok());
        let unit = match (number('u'), number('w')) {
            (Some(unit), _) => unit,
            (None, Some(worker)) => self.unit_of(WorkerId(worker)).ok_or_else(unknown)?,
            (None, None) => return Err(unknown()),
        };
        if self.order(unit, order) { Ok(json!({ "id": id })) } else { Err(unknown()) }
    }

    fn stop_actor(&mut self, request: &Value, reply: AdminReply) {
        let target: Address = match text(request, "target").and_then(|text| {
            text.parse()
                .map_err(|error: odeon_protocol::ParseAddressError| refusal(Reason::Protocol, error.to_string()))
        }) {
            Ok(target) => target,
            Err(why) => return reply(Err(why)),
        };
        let Address::Named { name, .. } = &target else {
            self.end(&target, false);
            return reply(Ok(json!({ "stopping": target.to_string() })));
        };
        let name = name.clone();
        let convention = self.parts.convention.clone();
        let read = async move { convention.linear_read_name(&name).await };
        self.begin(read, move |controller, record| match record {
            Ok(Some(record)) => {
                // Stopping what is dormant does nothing.
                if record.holder.is_some() {
                    controller.end(&target, false);
                }
                reply(Ok(json!({ "stopping": target.to_string() })));
            }
            Ok(None) => reply(Err(refusal(Reason::NoSuchActor, format!("{target}: nobody bears this global name")))),
            Err(error) => reply(Err(error.into())),
        });
    }
}

/// The convention.
impl Controller {
    fn token_create(&self, request: &Value, reply: AdminReply) {
        let role = request["role"].as_str().unwrap_or("voter").parse::<Role>();
        let role = match role {
            Ok(role) => role,
            Err(why) => return reply(Err(refusal(Reason::Protocol, why))),
        };
        let life = Duration::from_millis(request["ttl_ms"].as_u64().unwrap_or(24 * 3600 * 1000));
        let uses = request["uses"].as_u64().map(|uses| u32::try_from(uses).unwrap_or(u32::MAX));
        let convention = self.parts.convention.clone();
        let join = self.join_address();
        self.begin(async move { convention.create_token(role, life, uses).await }, move |_, made| {
            reply(made.map(|token| json!({ "token": token, "join": join })).map_err(Refusal::from));
        });
    }

    /// What a joiner is to dial.
    fn join_address(&self) -> String {
        let me = self.me();
        let known =
            self.parts.convention.directory(|directory| directory.member(me).map(|member| member.address.clone()));
        known.unwrap_or_else(|| self.parts.convention.listens_on().to_string())
    }

    fn token_list(&self) -> Value {
        let entries = self.parts.convention.tokens().into_iter().map(|token| {
            json!({
                "id": token.id.to_string(),
                "role": token.role.word(),
                "admin": token.admin,
                "expires": token.expires,
                "uses_left": token.uses,
            })
        });
        entries.collect()
    }

    fn token_revoke(&self, request: &Value, reply: AdminReply) {
        let id = match text(request, "id").and_then(|id| {
            id.parse::<TokenId>().map_err(|_| {
                refusal(Reason::NoSuchActor, format!("{id}: there is no such token: see `odeon token list`"))
            })
        }) {
            Ok(id) => id,
            Err(why) => return reply(Err(why)),
        };
        let convention = self.parts.convention.clone();
        self.begin(async move { convention.revoke_token(id).await }, move |_, done| {
            reply(done.map(|()| json!({ "revoked": id.to_string() })).map_err(Refusal::from));
        });
    }

    fn evict(&self, request: &Value, reply: AdminReply) {
        let (host, node) = match self.chosen_host(request) {
            Ok((host, node)) => (host.to_owned(), node),
            Err(why) => return reply(Err(why)),
        };
        let convention = self.parts.convention.clone();
        self.begin(async move { convention.evict(node).await }, move |_, done| {
            reply(done.map(|()| json!({ "evicted": host })).map_err(Refusal::from));
        });
    }

    /// Writes the directory with its secrets to a file, as the agent's user; whoever asks may start programs as that one.
    fn backup(&self, request: &Value, reply: AdminReply) {
        let file = match text(request, "file") {
            Ok(file) => PathBuf::from(file),
            Err(why) => return reply(Err(why)),
        };
        let (convention, force) = (self.parts.convention.clone(), request["force"] == true);
        let written = async move {
            let (backup, fresh) =
                convention.backup().await.map_err(|why| refusal(Reason::NoQuorum, why.to_string()))?;
            let write = move || {
                let bytes = backup.write(&file, force)?;
                Ok(json!({
                    "file": file,
                    "bytes": bytes,
                    "names": backup.names(),
                    "hosts": backup.hosts(),
                    "fresh": fresh,
                }))
            };
            let done: Result<Value, BackupError> = tokio::task::spawn_blocking(write)
                .await
                .map_err(|error| refusal(Reason::Protocol, error.to_string()))?;
            done.map_err(|error| refusal(Reason::Protocol, error.to_string()))
        };
        self.begin(written, move |_, done| reply(done));
    }

    fn close_link(&self, request: &Value) -> Result<Value, Refusal> {
        let (host, node) = self.chosen_host(request)?;
        if self.parts.convention.close_link(node) {
            return Ok(json!({ "closed": host }));
        }
        Err(refusal(Reason::Unreachable, format!("{host}: no data connection is open: see `odeon links`")))
    }

    fn chosen_host<'a>(&self, request: &'a Value) -> Result<(&'a str, NodeId), Refusal> {
        let host = text(request, "host")?;
        let found = self.parts.convention.members().into_iter().find(|member| member.name == host);
        let unknown = || refusal(Reason::NoSuchActor, format!("{host}: there is no such host: see `odeon hosts`"));
        Ok((host, found.ok_or_else(unknown)?.node))
    }

    /// Stops every actor, then leaves; the agent ends with it.
    fn leave(&mut self, reply: AdminReply) {
        self.leaving = true;
        reply(Ok(json!({ "left": self.parts.config.name })));
        self.parts.stop.cancel();
    }
}

fn text<'a>(request: &'a Value, field: &str) -> Result<&'a str, Refusal> {
    request[field].as_str().ok_or_else(|| refusal(Reason::Protocol, format!("the request lacks {field:?}")))
}

pub(super) fn fact(value: &Fact) -> Value {
    match value {
        Fact::Bool(value) => json!(value),
        Fact::Micros(micros) if micros % 1_000_000 == 0 => json!(micros / 1_000_000),
        Fact::Micros(micros) => json!(*micros as f64 / 1e6),
        Fact::Text(text) => json!(text),
    }
}

fn actor_entries(
    (node, boot): (NodeId, odeon_protocol::Boot),
    host: &str,
    actors: &[(WorkerId, ActorInfo)],
) -> Vec<Value> {
    let entries = actors.iter().map(|(worker, actor)| {
        let place = Direct { node, boot, serial: actor.serial };
        json!({
            "address": match &actor.global_name {
                Some(name) => Address::named(name.as_str(), false).to_string(),
                None => Address::Direct(place).to_string(),
            },
            "place": Address::Direct(place).to_string(),
            "type": actor.type_name,
            "name": actor.global_name,
            "host": host,
            "worker": worker.to_string(),
            "parent": actor.parent.some().map(|parent| Address::Direct(parent).to_string()),
            "mailbox": actor.mailbox,
            "handled": actor.handled,
            "epoch": actor.epoch,
        })
    });
    entries.collect()
}
