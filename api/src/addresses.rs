//! Addresses that clients want to be called at. What can be told from the address alone is told at once; what its name
//! leads to is looked at by the worker that calls, each time.

use shared::addresses::is_public;
use std::net::IpAddr;
use url::{Host, Url};

/// Checks the address of a call back.
///
/// # Errors
/// What is wrong with it, for people.
pub(crate) fn check_callback(address: &str, allow_private: bool) -> Result<(), &'static str> {
    let Ok(url) = Url::parse(address) else { return Err("must be an absolute URL") };
    if !["http", "https"].contains(&url.scheme()) {
        return Err("must begin with http:// or https://");
    }
    let private = match url.host() {
        None => return Err("must name a host"),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(ip)) => !is_public(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => !is_public(IpAddr::V6(ip)),
    };
    if private && !allow_private { Err("must not lead to a private address") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses_are_taken() {
        for address in [
            "https://example.com/hook",
            "http://example.com:8080/a?b=c",
            "https://93.184.216.34/",
            "https://[2606:4700::1111]/",
            "https://[::ffff:8.8.8.8]/",
            "HTTPS://Example.COM",
        ] {
            assert_eq!(check_callback(address, false), Ok(()), "{address}");
        }
    }

    #[test]
    fn private_ones_are_refused_however_they_are_written() {
        for address in [
            "http://localhost/",
            "http://LOCALHOST./",
            "http://a.localhost/",
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0.0.0.0/",
            "http://10.1.2.3/",
            "http://172.16.0.1/",
            "http://192.168.1.1/",
            "http://169.254.169.254/latest/meta-data",
            "http://100.64.0.1/",
            "http://224.0.0.1/",
            "http://255.255.255.255/",
            "http://[::1]/",
            "http://[::]/",
            "http://[fe80::1]/",
            "http://[fd00::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[64:ff9b::10.0.0.1]/",
            "http://[2002:7f00:1::]/",
            "http://[2001:db8::1]/",
        ] {
            assert_eq!(check_callback(address, false), Err("must not lead to a private address"), "{address}");
            assert_eq!(check_callback(address, true), Ok(()), "{address}");
        }
    }

    #[test]
    fn what_is_no_web_address_is_refused_in_any_case() {
        for address in
            ["", "example.com", "/hook", "ftp://example.com/", "file:///etc/passwd", "http://", "mailto:a@b.c"]
        {
            assert!(check_callback(address, true).is_err(), "{address}");
        }
    }
}
