//! One question, one answer, over TCP: a signed message does not fit every datagram.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{TSigner, rdata::tsig::TsigError},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// For one server.
pub const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

/// Why there is no answer that counts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("{server} does not answer: {why}")]
    Unreachable { server: SocketAddr, why: String },
    #[error("{server} answers what is no answer: {why}")]
    Malformed { server: SocketAddr, why: String },
    #[error("{server} refuses our signature: {why}")]
    Signature { server: SocketAddr, why: String },
    #[error("{server} says that our clocks are too far apart: check the time on both")]
    ClockSkew { server: SocketAddr },
    /// A code of the protocol other than success.
    #[error("{server} answers {code}")]
    Refused { server: SocketAddr, code: Code },
}

/// What a server may answer to a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// A prerequisite does not hold: somebody else was there before.
    Prerequisite,
    /// It does not know us, or we may not.
    NotAllowed,
    /// It does not have the zone, or not for writing.
    NotItsZone,
    Other(u16),
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Prerequisite => f.write_str("that somebody else has changed it meanwhile"),
            Self::NotAllowed => f.write_str("REFUSED or NOTAUTH: it does not let this key change the zone"),
            Self::NotItsZone => {
                f.write_str("NOTZONE or NOTIMP: it does not have the zone, or takes no changes")
            }
            Self::Other(code) => write!(f, "code {code}"),
        }
    }
}

impl Code {
    /// `None`: success.
    pub fn of(code: ResponseCode) -> Option<Self> {
        match code {
            ResponseCode::NoError => None,
            ResponseCode::NXRRSet
            | ResponseCode::YXRRSet
            | ResponseCode::YXDomain
            | ResponseCode::NXDomain => Some(Self::Prerequisite),
            ResponseCode::Refused | ResponseCode::NotAuth => Some(Self::NotAllowed),
            ResponseCode::NotZone | ResponseCode::NotImp => Some(Self::NotItsZone),
            other => Some(Self::Other(other.into())),
        }
    }
}

/// Sends a message and waits for its answer; with `signer` both must be signed. Every code is an answer here.
pub async fn ask(
    server: SocketAddr,
    mut message: Message,
    signer: Option<&TSigner>,
) -> Result<Message, WireError> {
    let malformed = |why: String| WireError::Malformed { server, why };
    let id = message.metadata.id;
    let mut verifier = None;
    if let Some(signer) = signer {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        verifier = message.finalize(signer, now).map_err(|error| malformed(error.to_string()))?;
    }
    let bytes = message.to_vec().map_err(|error| malformed(error.to_string()))?;
    let answer = match timeout(ANSWERED_WITHIN, exchange(server, &bytes)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(WireError::Unreachable { server, why: error.to_string() }),
        Err(_) => {
            let why = format!("nothing within {} s", ANSWERED_WITHIN.as_secs());
            return Err(WireError::Unreachable { server, why });
        }
    };
    let read = Message::from_vec(&answer).map_err(|error| malformed(error.to_string()))?;
    if read.metadata.id != id {
        return Err(malformed("it belongs to another question".into()));
    }
    if let Some(verifier) = &mut verifier {
        check_signature(server, &read)?;
        verifier
            .verify(&answer)
            .map_err(|error| WireError::Signature { server, why: format!("its own is wrong: {error}") })?;
    }
    Ok(read)
}

/// What the server says about our signature.
fn check_signature(server: SocketAddr, answer: &Message) -> Result<(), WireError> {
    let Some(signature) = &answer.signature else {
        let why = match Code::of(answer.metadata.response_code) {
            Some(code) => format!("{code}, without a signature of its own"),
            None => "its answer is not signed".into(),
        };
        return Err(WireError::Signature { server, why });
    };
    match &signature.data.error {
        None => Ok(()),
        Some(TsigError::BadTime) => Err(WireError::ClockSkew { server }),
        Some(TsigError::BadKey) => {
            Err(WireError::Signature { server, why: "BADKEY: it does not know the key".into() })
        }
        Some(TsigError::BadSig) => {
            Err(WireError::Signature { server, why: "BADSIG: the secrets differ".into() })
        }
        Some(other) => Err(WireError::Signature { server, why: format!("{other:?}") }),
    }
}

async fn exchange(server: SocketAddr, message: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(message.len()).map_err(|_| std::io::ErrorKind::InvalidInput)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend(message);
    stream.write_all(&framed).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// A number for a message.
pub fn new_id() -> u16 {
    rand::random()
}
