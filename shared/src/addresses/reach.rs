//! What may be called, by installation: everything public on ports of the web, and what the operator allows beside it.

use super::is_public;
use crate::config::Reader;
use ipnet::IpNet;
use std::net::IpAddr;
use url::{Host, Url};

/// Ports of services that speak something else than HTTP, or that only their own network should ask: a request there is
/// an attack on them. Ascending.
const SERVICES: &[u16] = &[
    1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109, 110,
    111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 445, 465, 512, 513, 514, 515, 526, 530, 531,
    532, 540, 548, 554, 556, 563, 587, 601, 636, 873, 989, 990, 993, 995, 1433, 1521, 1719, 1720, 1723, 1883, 2049,
    2375, 2376, 2379, 2380, 3306, 3389, 3659, 4045, 4190, 5060, 5061, 5432, 5672, 5900, 6000, 6379, 6566, 6665, 6666,
    6667, 6668, 6669, 6679, 6697, 8883, 9042, 9092, 10250, 11211, 27017, 27018, 27019,
];

/// What may be called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Private addresses as well.
    private: bool,
    /// Networks that are allowed whatever they are, on any port.
    networks: Vec<IpNet>,
    /// Names that are allowed wherever they lead, on any port; in lower case.
    hosts: Vec<String>,
}

/// Why something may not be called, as is said of a URL that a client gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Neither HTTP nor HTTPS.
    #[error("must begin with http:// or https://")]
    Scheme,
    /// Nobody to call.
    #[error("must name a host")]
    Host,
    /// It is of this host, or of its network.
    #[error("must not lead to a private address")]
    Private,
    /// Another kind of service listens there.
    #[error("must not lead to a port that belongs to another kind of service")]
    Port,
}

impl Reach {
    /// All that is public; `private`: and all that is not.
    pub fn new(private: bool) -> Self {
        Self { private, ..Self::default() }
    }

    /// What webhooks may reach: `ATELIER_WEBHOOK_ALLOW_PRIVATE` and `ATELIER_WEBHOOK_ALLOW_LIST`. API and worker must be
    /// told the same.
    pub fn read(from: &mut Reader) -> Self {
        let mut reach = Self::new(from.switch("ATELIER_WEBHOOK_ALLOW_PRIVATE", false));
        let listed: String = from.or("ATELIER_WEBHOOK_ALLOW_LIST", String::new());
        for word in listed.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match allowed(word) {
                Some(Allowed::Network(network)) => reach.networks.push(network),
                Some(Allowed::Host(host)) => reach.hosts.push(host),
                None => from.problem(format!(
                    "ATELIER_WEBHOOK_ALLOW_LIST: {word:?} is neither a network such as 10.1.0.0/16 nor the name of a host"
                )),
            }
        }
        reach
    }

    /// What can be said of a URL before its name is resolved.
    ///
    /// # Errors
    /// Why it may not be called.
    pub fn check(&self, url: &Url) -> Result<(), Refusal> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refusal::Scheme);
        }
        let (private, listed) = match url.host() {
            None => return Err(Refusal::Host),
            Some(Host::Domain(name)) => {
                let name = plain(name);
                (name == "localhost" || name.ends_with(".localhost"), self.hosts.contains(&name))
            }
            Some(Host::Ipv4(address)) => self.stand(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => self.stand(IpAddr::V6(address)),
        };
        if listed {
            return Ok(());
        }
        if private && !self.private {
            return Err(Refusal::Private);
        }
        match url.port_or_known_default() {
            Some(port) if SERVICES.binary_search(&port).is_ok() || port == 0 => Err(Refusal::Port),
            _ => Ok(()),
        }
    }

    /// Whether a connection may go to an address that a name was resolved to.
    pub fn admits(&self, name: &str, address: IpAddr) -> bool {
        self.private || is_public(address) || self.lists(address) || self.hosts.contains(&plain(name))
    }

    fn stand(&self, address: IpAddr) -> (bool, bool) {
        (!is_public(address), self.lists(address))
    }

    fn lists(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }
}

enum Allowed {
    Network(IpNet),
    Host(String),
}

fn allowed(word: &str) -> Option<Allowed> {
    if let Ok(network) = word.parse().or_else(|_| word.parse::<IpAddr>().map(IpNet::from)) {
        return Some(Allowed::Network(network));
    }
    match Host::parse(word) {
        Ok(Host::Domain(name)) if !name.contains('*') => Some(Allowed::Host(plain(&name))),
        Ok(_) | Err(_) => None,
    }
}

/// A name with a dot at its end is the same name.
fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;

    fn reach(list: &str) -> Reach {
        let mut from = Reader::new([("ATELIER_WEBHOOK_ALLOW_LIST".to_owned(), list.to_owned())]);
        let reach = Reach::read(&mut from);
        from.finish(reach).unwrap()
    }

    fn check(reach: &Reach, url: &str) -> Result<(), Refusal> {
        reach.check(&url.parse().unwrap())
    }

    #[test]
    fn what_the_operator_lists_is_allowed_and_its_neighbours_are_not() {
        let reach = reach("10.1.0.0/16, 192.168.7.7, Hooks.Internal, fd00::/8");
        for url in [
            "http://10.1.2.3/",
            "http://10.1.2.3:5432/",
            "http://192.168.7.7/",
            "http://hooks.internal:6379/",
            "http://HOOKS.internal./",
            "http://[fd00::1]/",
            "http://[::ffff:10.1.2.3]/",
            "https://example.com/",
        ] {
            assert_eq!(check(&reach, url), Ok(()), "{url}");
        }
        for url in ["http://10.2.0.1/", "http://192.168.7.8/", "http://localhost/", "http://169.254.169.254/"] {
            assert_eq!(check(&reach, url), Err(Refusal::Private), "{url}");
        }
        assert!(reach.admits("any.example", "10.1.0.1".parse().unwrap()));
        assert!(reach.admits("hooks.internal", "172.16.0.1".parse().unwrap()));
        assert!(!reach.admits("any.example", "172.16.0.1".parse().unwrap()));
        assert!(!reach.admits("nohooks.internal", "172.16.0.1".parse().unwrap()));
    }

    #[test]
    fn ports_of_other_services_are_refused_even_where_private_addresses_are_allowed() {
        assert!(SERVICES.is_sorted());
        for reach in [Reach::new(false), Reach::new(true)] {
            for port in [22, 25, 53, 110, 143, 465, 587, 993, 995, 3306, 5432, 6379, 11211, 27017, 0] {
                assert_eq!(check(&reach, &format!("http://example.com:{port}/")), Err(Refusal::Port), "{port}");
            }
            for port in [80, 443, 3000, 8000, 8080, 8443, 9000, 50_000] {
                assert_eq!(check(&reach, &format!("https://example.com:{port}/")), Ok(()), "{port}");
            }
        }
    }

    #[test]
    fn a_list_that_means_nothing_stops_the_start() {
        for list in ["10.0.0.0/33", "http://x.example", "*.example.com", "a b"] {
            let mut from = Reader::new([("ATELIER_WEBHOOK_ALLOW_LIST".to_owned(), list.to_owned())]);
            Reach::read(&mut from);
            assert!(from.finish(()).is_err(), "{list}");
        }
    }
}
