//! Where an NBD disk is.

use std::{fmt, net::Ipv6Addr, str::FromStr};

use disk_server::DEFAULT_PORT;

/// `nbd://HOST[:PORT]/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NbdAddress {
    /// Name or address, IPv6 without its brackets.
    pub host: String,
    /// NBD's own, 10809, if none is named.
    pub port: u16,
    /// What the server calls the disk.
    pub name: String,
}

/// The text names no NBD disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Cannot use {given:?} as a disk: {reason}. Write nbd://HOST:PORT/NAME")]
pub struct AddressError {
    given: String,
    reason: &'static str,
}

impl FromStr for NbdAddress {
    type Err = AddressError;

    fn from_str(given: &str) -> Result<Self, AddressError> {
        parse(given).map_err(|reason| AddressError {
            given: given.to_owned(),
            reason,
        })
    }
}

fn parse(given: &str) -> Result<NbdAddress, &'static str> {
    let rest = given
        .strip_prefix("nbd://")
        .ok_or("it does not begin with nbd://")?;
    let (server, name) = rest.split_once('/').ok_or("the disk's name is missing")?;
    if name.is_empty() {
        return Err("the disk's name is missing");
    }
    if name.contains(|c: char| c.is_control() || "/?#".contains(c)) {
        return Err("the disk's name has a character that no name has");
    }
    let (host, port) = match server.strip_prefix('[') {
        Some(bracketed) => {
            let (host, port) = bracketed.split_once(']').ok_or("the ] is missing")?;
            host.parse::<Ipv6Addr>()
                .map_err(|_| "only an IPv6 address stands in brackets")?;
            (host, port)
        }
        None => {
            let (host, port) = server.split_at(server.find(':').unwrap_or(server.len()));
            if port.matches(':').count() > 1 {
                return Err("an IPv6 address needs brackets, as in nbd://[::1]:10809/NAME");
            }
            (host, port)
        }
    };
    if host.is_empty() {
        return Err("the host is missing");
    }
    if !host
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || ".-_:".contains(c))
    {
        return Err("the host has a character that no host name has");
    }
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => DEFAULT_PORT,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => match digits.parse() {
            Ok(0) | Err(_) => return Err("the port is not between 1 and 65535"),
            Ok(port) => port,
        },
        _ => return Err("the port is not a number"),
    };
    Ok(NbdAddress {
        host: host.to_owned(),
        port,
        name: name.to_owned(),
    })
}

/// In the form that [`NbdAddress::from_str`] takes.
impl fmt::Display for NbdAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, name } = self;
        match host.contains(':') {
            true => write!(formatter, "nbd://[{host}]:{port}/{name}"),
            false => write!(formatter, "nbd://{host}:{port}/{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_were() {
        for (given, host, port, name) in [
            ("nbd://10.0.0.1:7/root", "10.0.0.1", 7, "root"),
            ("nbd://[::1]:10810/a b", "::1", 10810, "a b"),
        ] {
            let address: NbdAddress = given.parse().unwrap();
            assert_eq!((address.host.as_str(), address.port), (host, port));
            assert_eq!(address.name, name);
            assert_eq!(address.to_string(), given);
        }
        for given in ["nbd://storage/root", "nbd://[::1]/root"] {
            assert_eq!(given.parse::<NbdAddress>().unwrap().port, DEFAULT_PORT);
        }
    }

    #[test]
    fn what_names_no_disk_is_refused() {
        for given in [
            "root.img",
            "nbd://",
            "nbd://host",
            "nbd://host/",
            "nbd:///root",
            "nbd://::1/root",
            "nbd://[host]/root",
            "nbd://host:0/root",
            "nbd://host:x/root",
            "nbd://host:/root",
            "nbd://[::1]7/root",
            "nbd://ho st/root",
            "nbd://host/a/b",
        ] {
            assert!(given.parse::<NbdAddress>().is_err(), "{given}");
        }
    }
}
