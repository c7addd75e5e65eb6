//! Where an arbiter is: `file:PATH` or `tcp:HOST:PORT`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::{ArbiterError, file_address};

#[cfg(test)]
mod tests;

/// Where an arbiter is, as on the command line.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// `file:PATH`: a flag file on a disk that both replicas share.
    ///
    /// Name a file in a directory *inside* the share, not in the mount point itself: while the
    /// share is not mounted that directory is missing, and the claim fails, where a bare mount
    /// point would quietly give each host a flag of its own.
    File(PathBuf),
    /// `tcp:HOST:PORT`: a `lockstep arbiter` server.
    Tcp {
        /// Name or address, IPv6 without its brackets.
        host: String,
        /// Port, never 0.
        port: u16,
    },
}

impl FromStr for Address {
    type Err = ArbiterError;

    fn from_str(given: &str) -> Result<Self, ArbiterError> {
        let parsed = match given.split_once(':') {
            Some(("file", path)) => parse_file(path),
            Some(("tcp", rest)) => parse_tcp(rest),
            Some(_) => Err("it is neither file: nor tcp:"),
            None => Err("it does not say which kind"),
        };
        let given = given.to_owned();
        parsed.map_err(|reason| ArbiterError::Address { given, reason })
    }
}

fn parse_file(path: &str) -> Result<Address, &'static str> {
    if path.is_empty() {
        return Err("the path is missing");
    }
    if path.contains('\0') {
        return Err("a path cannot hold a zero byte");
    }
    if path.ends_with('/') {
        return Err("the path names a directory, not a file");
    }
    Ok(Address::File(PathBuf::from(path)))
}

fn parse_tcp(rest: &str) -> Result<Address, &'static str> {
    let (host, port) = rest.rsplit_once(':').ok_or("the port is missing")?;
    let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(inner) => inner
            .parse::<std::net::Ipv6Addr>()
            .map(|_| inner)
            .map_err(|_| "only an IPv6 address stands in brackets")?,
        None => host,
    };
    if host.is_empty() {
        return Err("the host is missing");
    }
    if rest.matches(':').count() > 1 && !rest.starts_with('[') {
        return Err("an IPv6 address needs brackets, as in tcp:[::1]:7100");
    }
    if !host
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || ".-_:".contains(c))
    {
        return Err("the host has a character that no host name has");
    }
    if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("the port is not a number");
    }
    match port.parse() {
        Ok(0) | Err(_) => Err("the port is not between 1 and 65535"),
        Ok(port) => Ok(Address::Tcp {
            host: host.to_owned(),
            port,
        }),
    }
}

/// In the form that [`Address::from_str`] takes (a path that is not UTF-8 is shown as near as can be).
impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => formatter.write_str(&file_address(path)),
            Self::Tcp { host, port } if host.contains(':') => {
                write!(formatter, "tcp:[{host}]:{port}")
            }
            Self::Tcp { host, port } => write!(formatter, "tcp:{host}:{port}"),
        }
    }
}
