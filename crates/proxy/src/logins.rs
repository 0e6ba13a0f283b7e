//! What users have shown to get in, which servers take as well: one book for all threads, since the next client of a user, who may show
//! nothing that a server takes (a certificate, the name of a process), can come to any of them.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use bellwether_pgwire::auth::login::Login;

/// By user. Of users that were let in alone, so there are no more than the servers have.
#[derive(Debug, Default)]
pub(crate) struct Logins(Mutex<HashMap<String, Login>>);

impl Logins {
    /// What a server of this user can be opened with, after the user has brought `shown`.
    pub(crate) fn after(&self, user: &str, shown: Login) -> Login {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(shown, Login::Nothing) {
            return known.get(user).cloned().unwrap_or(Login::Nothing);
        }
        known.insert(user.to_owned(), shown.clone());
        shown
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn who_shows_nothing_gets_what_the_same_user_has_shown_last() {
        let logins = Logins::default();
        let password = |text: &str| Login::Password(text.to_owned().into());
        let is = |login: &Login, text: &str| matches!(login, Login::Password(known) if known.expose_secret() == text);
        assert!(matches!(logins.after("app", Login::Nothing), Login::Nothing));
        logins.after("app", password("old"));
        assert!(is(&logins.after("app", password("new")), "new"));
        assert!(is(&logins.after("app", Login::Nothing), "new"));
        assert!(matches!(logins.after("other", Login::Nothing), Login::Nothing));
    }
}
