use super::Address;
use proptest::prelude::*;

fn tcp(host: &str, port: u16) -> Address {
    let host = host.to_owned();
    Address::Tcp { host, port }
}

#[test]
fn good_addresses_are_read_and_shown_alike() {
    let cases = [
        (
            "file:/shared/pair/flag",
            Address::File("/shared/pair/flag".into()),
        ),
        ("file:flag", Address::File("flag".into())),
        ("file:odd:name", Address::File("odd:name".into())),
        (
            "tcp:third-host.example:7100",
            tcp("third-host.example", 7100),
        ),
        ("tcp:10.0.0.3:1", tcp("10.0.0.3", 1)),
        ("tcp:[fe80::1]:65535", tcp("fe80::1", 65535)),
    ];
    for (text, address) in cases {
        assert_eq!(text.parse::<Address>().unwrap(), address);
        assert_eq!(address.to_string(), text);
    }
}

#[test]
fn bad_addresses_are_refused_by_name_and_reason() {
    let cases = [
        ("", "does not say which kind"),
        ("/shared/flag", "does not say which kind"),
        ("etcd:host:1", "neither file: nor tcp:"),
        ("file:", "path is missing"),
        ("file:/shared/", "names a directory"),
        ("file:a\0b", "zero byte"),
        ("tcp:host", "port is missing"),
        ("tcp::7100", "host is missing"),
        ("tcp:host:", "port is not a number"),
        ("tcp:host:+1", "port is not a number"),
        ("tcp:host:0", "between 1 and 65535"),
        ("tcp:host:65536", "between 1 and 65535"),
        ("tcp:::1:7100", "needs brackets"),
        ("tcp:[host]:7100", "only an IPv6 address"),
        ("tcp:two words:7100", "no host name has"),
    ];
    for (text, reason) in cases {
        let message = text.parse::<Address>().unwrap_err().to_string();
        assert!(message.contains(reason), "{text:?}: {message}");
        assert!(message.contains(&format!("{text:?}")), "{message}");
    }
}

proptest! {
    #[test]
    fn whatever_is_read_is_shown_as_read(text in "(file:|tcp:)?\\PC{0,30}") {
        if let Ok(address) = text.parse::<Address>() {
            prop_assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
        }
    }
}
