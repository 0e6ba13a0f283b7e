//! `show-config`.

use bellwether_types::cluster::ConfigDocument;

use crate::{
    command::ShowConfigArgs,
    error::CliError,
    manner::{Manner, Outcome},
    render::yaml,
    session::Session,
};

pub(crate) async fn show_config(session: &mut Session, args: &ShowConfigArgs) -> Result<Outcome, CliError> {
    let target = session.target_of_own_group(args.cluster.as_deref()).await?;
    let cluster = target.cluster().await?;
    match cluster.config.as_ref().map(|keyed| &keyed.value) {
        None => Ok(Outcome::Done),
        Some(ConfigDocument::Valid(document)) => {
            // One more line end than the document has, as Patroni prints it.
            session.talk.line(yaml::block(document));
            Ok(Outcome::Done)
        }
        Some(ConfigDocument::Invalid) if session.manner == Manner::Patronictl => {
            session.talk.line("{}\n");
            Ok(Outcome::Done)
        }
        Some(ConfigDocument::Invalid) => Err(CliError::with_help(
            format!("The config key of the cluster {} holds no JSON object", target.name),
            format!("`bellwether edit-config {} --replace FILE` writes a new one", target.name),
        )),
    }
}
