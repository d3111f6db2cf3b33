//! Addresses that clients want to be called at. What can be told from the address alone is told at once; what its name
//! leads to is looked at by the worker that calls, each time.

use shared::addresses::Reach;
use url::Url;

/// Checks the address of a call back.
///
/// # Errors
/// What is wrong with it, for people.
pub(crate) fn check_callback(address: &str, reach: &Reach) -> Result<(), String> {
    let Ok(url) = Url::parse(address) else { return Err("must be an absolute URL".to_owned()) };
    reach.check(&url).map_err(|refusal| refusal.to_string())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
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
            assert_eq!(check_callback(address, &Reach::new(false)), Ok(()), "{address}");
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
            let refusal = check_callback(address, &Reach::new(false)).unwrap_err();
            assert_eq!(refusal, "must not lead to a private address", "{address}");
            assert_eq!(check_callback(address, &Reach::new(true)), Ok(()), "{address}");
        }
    }

    #[test]
    fn what_is_no_web_address_is_refused_in_any_case() {
        for address in
            ["", "example.com", "/hook", "ftp://example.com/", "file:///etc/passwd", "http://", "mailto:a@b.c"]
        {
            assert!(check_callback(address, &Reach::new(true)).is_err(), "{address}");
        }
    }
}
