//! Who must show what: PgBouncer's `auth_hba_file` and `auth_ident_file`.

use std::{
    fmt::Display,
    path::{Path, PathBuf},
    sync::Arc,
};

use bellwether_config::sections::pooler::{AuthType, Pooler};
use bellwether_pgwire::auth::{certificate::IdentMaps, hba};
use bellwether_proxy::settings::Rules;

/// Why rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum RulesError {
    #[error("could not read `{}` (`pooler.{key}`)", path.display())]
    Read {
        key: &'static str,
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("`{}` (`pooler.{key}`): {problems}", path.display())]
    Lines { key: &'static str, path: PathBuf, problems: String },
}

/// Reads both files. Blocking. `None`: `auth_type` says the same for everybody.
pub(super) fn read(pooler: &Pooler) -> Result<Option<Arc<Rules>>, RulesError> {
    let (AuthType::Hba, Some(path)) = (pooler.auth_type, &pooler.auth_hba_file) else { return Ok(None) };
    let lines = parsed("auth_hba_file", path, hba::Rules::parse)?;
    let maps = pooler.auth_ident_file.as_deref();
    let maps = maps.map(|path| parsed("auth_ident_file", path, IdentMaps::parse)).transpose()?;
    Ok(Some(Arc::new(Rules { lines, maps: maps.unwrap_or_default() })))
}

fn parsed<T, E: Display>(
    key: &'static str,
    path: &Path,
    parse: impl FnOnce(&str) -> Result<T, Vec<E>>,
) -> Result<T, RulesError> {
    let text = std::fs::read_to_string(path).map_err(|cause| RulesError::Read {
        key,
        path: path.to_owned(),
        cause,
    })?;
    parse(&text).map_err(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        RulesError::Lines { key, path: path.to_owned(), problems: problems.join("; ") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_line_is_told_with_its_file_and_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hba");
        std::fs::write(&path, "host all all 0.0.0.0/0 md5\nhost all +staff 0.0.0.0/0 md5\n").unwrap();
        let told = parsed("auth_hba_file", &path, hba::Rules::parse).unwrap_err().to_string();
        assert!(told.contains("hba` (`pooler.auth_hba_file`): line 2: members of a role"), "{told}");
        let told = parsed("auth_hba_file", &dir.path().join("gone"), hba::Rules::parse).unwrap_err();
        assert!(told.to_string().starts_with("could not read"), "{told}");
    }
}
