//! Addresses that clients want to be called at. What can be told from the address alone is told at once; what its name
//! leads to is looked at by the worker that calls, each time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
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
        Some(Host::Ipv4(ip)) => is_private(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => is_private(IpAddr::V6(ip)),
    };
    if private && !allow_private { Err("must not lead to a private address") } else { Ok(()) }
}

/// Whether an address is anything else than one host on the public internet.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_private_v4(ip),
        IpAddr::V6(ip) => is_private_v6(ip),
    }
}

fn is_private_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_documentation()
        // this network; shared by carriers; protocol assignments; benchmarks; reserved, with broadcast at its end
        || a == 0
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b))
        || a >= 240
}

fn is_private_v6(ip: Ipv6Addr) -> bool {
    let [first, second, .., high, low] = ip.segments();
    // written as IPv6, or reached through a translator (NAT64) or 6to4: what counts is the IPv4 address within
    let within = if first == 0x2002 {
        Some((second, ip.segments()[2]))
    } else if ip.to_ipv4_mapped().is_some() || (first == 0x64 && second == 0xff9b) {
        Some((high, low))
    } else {
        None
    };
    if let Some((high, low)) = within {
        return is_private_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    }
    // only 2000::/3 is handed out; documentation is a part of it
    (first & 0xe000) != 0x2000 || (first == 0x2001 && second == 0xdb8)
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
