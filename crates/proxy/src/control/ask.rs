//! What workers ask: they cannot wait for answers themselves.

use std::{collections::HashMap, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use bellwether_pgwire::auth::secret::Secret;
use bellwether_sql::catalogue::Catalogue;
use bellwether_types::Timestamp;
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use super::{cancels::Cancels, console::Console};
use crate::split::Position;
use crate::worker::{Caller, Command, Mailbox, epoll::Key};

/// How long an answer is believed: a password that was changed opens no later than after this, and the old one no longer.
const BELIEVED: Duration = Duration::from_secs(10);
/// Not even a wrong password makes one look again before that.
const KEPT: Duration = Duration::from_secs(1);
/// For one look.
const LIMIT: Duration = Duration::from_secs(5);

/// What is known of a user's password, or why that cannot be found out.
pub type Answer = Result<Option<Secret>, String>;

/// Where secrets of users come from: called with a user's name.
pub trait Secrets: Send + Sync + fmt::Debug {
    fn secret_of(&self, user: String) -> Pin<Box<dyn Future<Output = Answer> + Send>>;

    /// How far the primary's WAL is at this moment. Without it nothing is read from replicas where lag is limited.
    fn primary_position(&self) -> Pin<Box<dyn Future<Output = Result<Position, String>> + Send>> {
        Box::pin(async { Err("nobody is there to ask".to_owned()) })
    }

    /// What a database says of its functions and relations ([`bellwether_sql::catalogue::QUERY`]). Without it nothing is read from
    /// replicas.
    fn catalogue_of(
        &self,
        database: String,
    ) -> Pin<Box<dyn Future<Output = Result<Catalogue, String>> + Send>> {
        Box::pin(async move { Err(format!("nobody is there to ask about the database {database:?}")) })
    }
}

/// A question of a worker.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) worker: usize,
    pub(crate) client: Key,
    pub(crate) what: What,
}

/// What it asks for.
#[derive(Debug)]
pub(crate) enum What {
    /// What is known of this user's password.
    Secret(String),
    /// What this user is called in the operating system.
    SystemUser(u32),
    /// What is known of this user's password did not fit: it may have been changed.
    Forget(String),
    /// To find whose key to cancel this is.
    Cancel { process: u32, secret: Vec<u8> },
    /// To do what is typed on the console.
    Console { text: String, may_change: bool },
    /// How far the primary is, asked at this moment.
    Position(Timestamp),
    /// What this database says of its functions and relations.
    Catalogue(Arc<str>),
}

/// Answers until the workers end.
pub(super) async fn answer(
    mut asks: mpsc::Receiver<Ask>,
    console: Console,
    secrets: Arc<dyn Secrets>,
    mut cancels: Cancels,
) {
    let workers = console.workers().to_vec();
    let mut commands = JoinSet::new();
    let mut known: HashMap<String, (Instant, Option<Secret>)> = HashMap::new();
    let mut waiting: HashMap<String, Vec<(usize, Key)>> = HashMap::new();
    let mut looks: JoinSet<(String, Answer)> = JoinSet::new();
    let mut catalogues = JoinSet::new();
    let mut positions = JoinSet::new();
    let mut names = JoinSet::new();
    let tell = |(worker, client): (usize, Key), answer: Answer| {
        if let Some(mailbox) = workers.get(worker) {
            mailbox.send(Command::Secret(client, answer));
        }
    };
    loop {
        tokio::select! {
            ask = asks.recv() => {
                let Some(Ask { worker, client, what }) = ask else { return };
                let user = match what {
                    What::Secret(user) => user,
                    What::Forget(user) => {
                        // Guesses must not become a flood of looks.
                        if known.get(&user).is_some_and(|(read, _)| read.elapsed() >= KEPT) {
                            known.remove(&user);
                        }
                        continue;
                    }
                    What::Cancel { process, secret } => {
                        let Some(asking) = workers.get(worker) else { continue };
                        let caller = Arc::new(Caller::Client { worker: asking.clone(), client });
                        for mailbox in &workers {
                            mailbox.send(Command::Cancel(process, secret.clone(), caller.clone()));
                        }
                        cancels.send_on(process, &secret, &caller);
                        continue;
                    }
                    What::SystemUser(id) => {
                        names.spawn(read_name(workers.get(worker).cloned(), client, id));
                        continue;
                    }
                    What::Position(asked) => {
                        positions.spawn(read_position(secrets.clone(), workers.get(worker).cloned(), asked));
                        continue;
                    }
                    What::Catalogue(database) => {
                        catalogues.spawn(read_catalogue(secrets.clone(), workers.get(worker).cloned(), database));
                        continue;
                    }
                    What::Console { text, may_change } => {
                        let (console, workers) = (console.clone(), workers.clone());
                        commands.spawn(async move {
                            let answer = console.obey(&text, may_change).await;
                            if let Some(mailbox) = workers.get(worker) {
                                mailbox.send(Command::Console(client, answer));
                            }
                        });
                        continue;
                    }
                };
                match known.get(&user) {
                    Some((read, secret)) if read.elapsed() < BELIEVED => tell((worker, client), Ok(secret.clone())),
                    _ => {
                        let others = waiting.entry(user.clone()).or_default();
                        others.push((worker, client));
                        // One look for all who wait for the same.
                        if others.len() == 1 {
                            let look = secrets.secret_of(user.clone());
                            looks.spawn(async move {
                                let late = || Err("the look took too long".to_owned());
                                (user, tokio::time::timeout(LIMIT, look).await.unwrap_or_else(|_| late()))
                            });
                        }
                    }
                }
            }
            Some(_) = commands.join_next() => {}
            Some(_) = catalogues.join_next() => {}
            Some(_) = positions.join_next() => {}
            Some(_) = names.join_next() => {}
            () = cancels.ended() => {}
            Some(found) = looks.join_next() => {
                let Ok((user, answer)) = found else { continue };
                for asker in waiting.remove(&user).unwrap_or_default() {
                    tell(asker, answer.clone());
                }
                if let Ok(secret) = answer {
                    known.retain(|_, (read, _)| read.elapsed() < BELIEVED);
                    known.insert(user, (Instant::now(), secret));
                }
            }
        }
    }
}

async fn read_position(secrets: Arc<dyn Secrets>, worker: Option<Mailbox>, asked: Timestamp) {
    let read = tokio::time::timeout(LIMIT, secrets.primary_position()).await;
    let position = read.unwrap_or_else(|_| Err("the look took too long".to_owned()));
    let position = position.inspect_err(|error| {
        tracing::info!(%error, "reads with a limit of lag go to the primary: how far it is is not known");
    });
    if let Some(worker) = worker {
        worker.send(Command::Position(position.ok(), asked));
    }
}

/// A name service may be far away: nobody who carries data waits for it.
async fn read_name(worker: Option<Mailbox>, client: Key, id: u32) {
    let look = tokio::task::spawn_blocking(move || nix::unistd::User::from_uid(id.into()));
    let name = match tokio::time::timeout(LIMIT, look).await {
        Ok(Ok(Ok(Some(user)))) => Ok(user.name),
        Ok(Ok(Ok(None))) => Err(format!("the user with the number {id} has no name here")),
        Ok(Ok(Err(error))) => Err(error.to_string()),
        Ok(Err(_)) | Err(_) => Err("the look took too long".to_owned()),
    };
    if let Some(worker) = worker {
        worker.send(Command::SystemUser(client, name));
    }
}

async fn read_catalogue(secrets: Arc<dyn Secrets>, worker: Option<Mailbox>, database: Arc<str>) {
    let read = tokio::time::timeout(LIMIT, secrets.catalogue_of(database.to_string())).await;
    let catalogue = match read.unwrap_or_else(|_| Err("the look took too long".to_owned())) {
        Ok(catalogue) => Some(Arc::new(catalogue)),
        Err(error) => {
            tracing::warn!(%error, %database, "reads of this database go to the primary: its catalogue is not known");
            None
        }
    };
    if let Some(worker) = worker {
        worker.send(Command::Catalogue(database, catalogue));
    }
}
