//! Names kept on real servers: BIND with keys, and with Kerberos. What virtual addresses do is tested on whole hosts (`tests/chaos`).

mod bind;
mod kdc;
mod member;
mod names;
mod providers;
