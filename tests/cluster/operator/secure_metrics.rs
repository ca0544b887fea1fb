//! Metrics over TLS, for those who may get `/metrics`, by the API server's own word.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

use super::objects::FAST;
use crate::harness::operator::{Operator, SOON};
use crate::harness::{ControlPlane, NOBODY, Part, eventually, free_port};

/// The reviews of one operator that cost the API server something.
const REVIEWS: [&str; 2] = ["tokenreviews", "subjectaccessreviews"];

struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    /// Another certificate, which only itself has signed.
    fn renew(&self) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed(["waybill".to_owned()]).unwrap();
        std::fs::write(&self.key, made.signing_key.serialize_pem()).unwrap();
        std::fs::write(&self.certificate, made.cert.pem()).unwrap();
        made.cert.der().clone()
    }
}

/// Status and body of a scrape by someone who trusts one certificate.
async fn scrape(
    port: u16,
    trusted: &CertificateDer<'static>,
    token: Option<&str>,
) -> Result<(u16, String), String> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| error.to_string())?;
    let name = ServerName::try_from("waybill").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| error.to_string())?;
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request = format!("GET /metrics HTTP/1.0\r\nHost: waybill\r\n{token}\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    Ok((head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned()))
}

fn reviews(plane: &ControlPlane) -> [usize; 2] {
    let asked = plane.requests_of("secure");
    REVIEWS.map(|kind| {
        asked.iter().filter(|event| event.object_ref.resource == kind && event.verb == "create").count()
    })
}

#[tokio::test]
async fn only_those_who_may_get_metrics_read_them() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    for file in ["reviews", "reader"] {
        let path = format!("{}/manifests/components/metrics-secure/{file}.yaml", env!("CARGO_MANIFEST_DIR"));
        plane.kubectl_ok(&["apply", "-f", &path]);
    }
    let files =
        Files { certificate: plane.folder().join("metrics.crt"), key: plane.folder().join("metrics.key") };
    let first = files.renew();
    let port = free_port();
    let operator: Operator = plane
        .operator(
            "secure",
            &[
                FAST,
                "--operator.metricsSecure",
                &format!("--operator.metricsSecureAddress=127.0.0.1:{port}"),
                &format!("--operator.metricsCertFile={}", files.certificate.display()),
                &format!("--operator.metricsKeyFile={}", files.key.display()),
            ],
        )
        .await;
    operator.ready().await;
    assert_eq!(operator.get("/livez").await.unwrap().0, 200);
    assert_eq!(operator.get("/metrics").await.unwrap().0, 404, "without TLS there are only probes");

    let reader = plane.service_account_token("waybill", "waybill-metrics-reader").await;
    let own = plane.service_account_token("waybill", "waybill").await;
    let ask = async |token: Option<&str>| scrape(port, &first, token).await.unwrap();
    assert_eq!(ask(None).await.0, 401);
    assert_eq!(ask(Some("wrong")).await.0, 401);
    let (code, text) = ask(Some(&own)).await;
    assert_eq!((code, text.contains("waybill-metrics-reader")), (403, true), "{text}");
    assert_eq!(ask(Some(NOBODY)).await.0, 403);
    for _ in 0..20 {
        let (code, text) = ask(Some(&reader)).await;
        assert_eq!(code, 200, "{text}");
        assert!(text.contains("waybill_build_info"), "{text}");
        assert_eq!(ask(Some(&own)).await.0, 403);
    }
    assert_eq!(reviews(&plane), [4, 3], "each token once");
    let (_, text) = ask(Some(&reader)).await;
    for (result, count) in [("allowed", 1), ("forbidden", 2), ("unauthenticated", 1)] {
        let line = format!("waybill_metrics_reviews_total{{result=\"{result}\"}} {count}\n");
        assert!(text.contains(&line), "{line}{text}");
    }

    // A new certificate counts from the next connection on.
    let second = files.renew();
    eventually("the new certificate is shown", SOON, async || {
        scrape(port, &second, Some(&reader)).await.map(|(code, _)| assert_eq!(code, 200))
    })
    .await;
    scrape(port, &first, Some(&reader)).await.expect_err("the old one is gone");

    // Strangers make it ask a few times and no more, and keep nobody out.
    let begun = std::time::Instant::now();
    let mut refused = 0;
    for stranger in 0..200 {
        let (code, _) = scrape(port, &second, Some(&format!("stranger-{stranger}"))).await.unwrap();
        assert!(matches!(code, 401 | 429), "{code}");
        refused += usize::from(code == 429);
    }
    let most = 10 + 5 * (begun.elapsed().as_secs() as usize + 1);
    assert!(refused > 0 && reviews(&plane)[0] - 4 <= most, "{:?}, {refused} refused", reviews(&plane));
    assert_eq!(scrape(port, &second, Some(&reader)).await.unwrap().0, 200);

    // Whoever was allowed may read on while the API server is away; nobody else comes in.
    plane.kill(Part::ApiServer);
    eventually("a stranger is told that nobody can be asked", SOON, async || {
        match scrape(port, &second, Some("late")).await? {
            (503, _) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(scrape(port, &second, Some(&reader)).await.unwrap().0, 200);
    plane.revive(Part::ApiServer).await;
    let late = plane.service_account_token("waybill", "waybill-metrics-reader").await;
    eventually("another token of the reader is good again", SOON, async || {
        match scrape(port, &second, Some(&late)).await? {
            (200, _) => Ok(()),
            other => Err(format!("{other:?}\n{}", operator.process.log_tail())),
        }
    })
    .await;
}

#[tokio::test]
async fn a_replica_without_the_right_to_ask_says_so() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    let port = free_port();
    let address = format!("--operator.metricsSecureAddress=127.0.0.1:{port}");
    let files =
        Files { certificate: plane.folder().join("metrics.crt"), key: plane.folder().join("metrics.key") };
    let trusted = files.renew();
    let operator = plane
        .operator(
            "secure",
            &[
                FAST,
                "--operator.metricsSecure",
                &address,
                &format!("--operator.metricsCertFile={}", files.certificate.display()),
                &format!("--operator.metricsKeyFile={}", files.key.display()),
            ],
        )
        .await;
    operator.ready().await;
    let own = plane.service_account_token("waybill", "waybill").await;
    assert_eq!(scrape(port, &trusted, Some(&own)).await.unwrap().0, 503);
    let log = operator.process.log_tail();
    assert!(log.contains("TokenReview") && log.contains("manifests/components/metrics-secure"), "{log}");
}
