//! Counts the published certificates that expire soon, for a metric.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use x509_parser::pem::Pem;

use crate::metrics::{EndsWithin, Label, Metrics};
use crate::operator::live::Live;
use crate::table::Digest;

/// The interval of checks.
const AGAIN: Duration = Duration::from_secs(60);

const DAY: i64 = 24 * 3600;

/// Checks once a minute until it is dropped.
pub async fn count_expiring(live: Arc<Live>, metrics: Metrics) {
    // The expiry of a certificate never changes, so each is parsed only once.
    let mut ends: HashMap<Digest, i64> = HashMap::new();
    loop {
        let mut before = std::mem::take(&mut ends);
        let mut new = Vec::new();
        for (_, output) in live.routing().table().outputs() {
            for (sum, certificate) in output.certificates() {
                match before.remove(sum) {
                    Some(end) => drop(ends.insert(*sum, end)),
                    None if ends.contains_key(sum) => {}
                    None => new.push((*sum, Arc::clone(&certificate.cert_file))),
                }
            }
        }
        for (sum, pem) in new {
            // Traefik reports certificates that can't be parsed.
            ends.insert(sum, end_of(&pem).unwrap_or(i64::MAX));
            tokio::task::yield_now().await;
        }
        let now = jiff::Timestamp::now().as_second();
        for within in EndsWithin::ALL {
            let until = now + days(*within) * DAY;
            let count = ends.values().filter(|end| **end <= until).count();
            metrics.certificates_expiring.set(*within, count as f64);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn days(within: EndsWithin) -> i64 {
    match within {
        EndsWithin::Expired => 0,
        EndsWithin::Week => 7,
        EndsWithin::Month => 30,
    }
}

/// When the first certificate of a PEM text expires, in Unix seconds.
fn end_of(pem: &str) -> Option<i64> {
    let first = Pem::iter_from_buffer(pem.as_bytes()).next()?.ok()?;
    Some(first.parse_x509().ok()?.validity().not_after.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_certificate_counts() {
        let pem = |year| {
            let mut params = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, 1, 2);
            params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
        };
        let second = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_second();
        assert_eq!(end_of(&(pem(2031) + &pem(2040))), Some(second("2031-01-02T00:00:00Z")));
        assert_eq!(end_of("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), None);
        assert_eq!(end_of(""), None);
    }
}
