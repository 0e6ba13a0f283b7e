//! `dsn`: where a member's PostgreSQL is.

use bellwether_types::cluster::Member;

use crate::{
    command::{DsnArgs, RoleChoice},
    error::CliError,
    groups::Groups,
    interop::{
        drivers::{Driver, For, connection_string},
        places,
    },
    manner::Outcome,
    members,
    render::members::host_and_port,
    session::Session,
};

pub(crate) async fn dsn(session: &mut Session, args: &DsnArgs) -> Result<Outcome, CliError> {
    if let Some(driver) = args.driver {
        return for_driver(session, args, driver).await;
    }
    let which = Which::from_options(args.role, args.member.as_deref())?;
    let target = session.target(args.cluster.as_deref()).await?;
    let groups = target.groups().await?;
    let address = which.find(&groups).and_then(host_and_port);
    let (host, port) = address.ok_or_else(|| CliError::refused("Can not find a suitable member"))?;
    session.talk.line(format!("host={host} port={port}"));
    Ok(Outcome::Done)
}

async fn for_driver(session: &mut Session, args: &DsnArgs, driver: Driver) -> Result<Outcome, CliError> {
    let target = session.target(args.cluster.as_deref()).await?;
    let places = places(&target.cluster().await?);
    if places.is_empty() {
        return Err(CliError::refused("no member has said where it is"));
    }
    let purpose = if args.reads { For::Reads } else { For::Writes };
    session.talk.line(connection_string(driver, &places, &args.database, purpose));
    Ok(Outcome::Done)
}

/// The member to talk to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which<'a> {
    Role(RoleChoice),
    Member(&'a str),
}

impl<'a> Which<'a> {
    pub(crate) fn from_options(role: Option<RoleChoice>, member: Option<&'a str>) -> Result<Self, CliError> {
        match (role, member) {
            (Some(_), Some(_)) => {
                Err(CliError::refused("--role and --member are mutually exclusive options"))
            }
            (_, Some(member)) => Ok(Self::Member(member)),
            (role, None) => Ok(Self::Role(role.unwrap_or(RoleChoice::Leader))),
        }
    }

    pub(crate) fn find(self, groups: &'a Groups) -> Option<&'a Member> {
        match self {
            Self::Member(name) => {
                groups.members().map(|(_, member)| member).find(|member| member.name.as_str() == name)
            }
            Self::Role(role) => members::with_role(groups, role).into_iter().next(),
        }
    }
}
