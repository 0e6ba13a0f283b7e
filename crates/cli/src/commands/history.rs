//! `history`.

use crate::{command::HistoryArgs, error::CliError, manner::Outcome, render, session::Session};

pub(crate) async fn history(session: &mut Session, args: &HistoryArgs) -> Result<Outcome, CliError> {
    let target = session.target_of_own_group(args.cluster.as_deref()).await?;
    let text = render::history::render(&target.cluster().await?, args.format);
    session.talk.terminal.out(&text);
    Ok(Outcome::Done)
}
