use k8s_openapi::ByteString;

use super::*;

const CRT: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n";

fn secret(version: &str, pairs: &[(&str, &str)]) -> Secret {
    Secret {
        metadata: ObjectMeta { resource_version: Some(version.into()), ..ObjectMeta::default() },
        data: Some(
            pairs.iter().map(|(key, value)| ((*key).into(), ByteString(value.as_bytes().into()))).collect(),
        ),
    }
}

fn good(version: &str) -> Secret {
    secret(version, &[("tls.crt", CRT), ("tls.key", PRIVATE)])
}

fn key() -> SecretKey {
    SecretKey::new("web", "tls")
}

/// A GET that begins now, and its answer.
fn answer(secrets: &mut Secrets, answer: Option<&Secret>) -> bool {
    let asked = secrets.ask(&key()).unwrap();
    secrets.fetched(&key(), &asked, answer)
}

fn certificate() -> SecretCertificate {
    let certificate = Certificate { cert_file: CRT.into(), key_file: PRIVATE.into() };
    SecretCertificate { certificate: certificate.into(), created: Created::UNKNOWN }
}

#[test]
fn a_certificate_must_look_like_one() {
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, SecretFault);
    let cases: &[Case<'_>] = &[
        (&[], "tls.crt", SecretFault::Missing),
        (&[("tls.key", PRIVATE)], "tls.crt", SecretFault::Missing),
        (&[("tls.crt", ""), ("tls.key", PRIVATE)], "tls.crt", SecretFault::Empty),
        (&[("tls.crt", CRT)], "tls.key", SecretFault::Missing),
        (&[("tls.crt", "/etc/shadow"), ("tls.key", PRIVATE)], "tls.crt", SecretFault::NoBlock),
        (&[("tls.crt", CRT), ("tls.key", "/etc/shadow")], "tls.key", SecretFault::NoBlock),
        (&[("tls.crt", PRIVATE), ("tls.key", CRT)], "tls.crt", SecretFault::NoBlock),
    ];
    for (pairs, key, fault) in cases {
        let expected = SecretState::Invalid { key, fault: *fault };
        assert_eq!(SecretState::from(&secret("1", pairs)), expected, "{pairs:?}");
    }
    let blank = format!("Bag Attributes: \u{e9}\n\t{CRT}subject=web");
    let content = SecretState::from(&secret("1", &[("tls.crt", &blank), ("tls.key", PRIVATE)]));
    assert_eq!(content, SecretState::Certificate(certificate()), "the block alone");
    let both = [PRIVATE, CRT].concat();
    let content = SecretState::from(&secret("1", &[("tls.crt", &both), ("tls.key", PRIVATE)]));
    assert_eq!(content, SecretState::Certificate(certificate()), "the key is not in the certificate");
    let mut binary = good("1");
    binary.data.as_mut().unwrap().insert("tls.key".into(), ByteString(b"-----BEGIN \xff".to_vec()));
    let expected = SecretState::Invalid { key: "tls.key", fault: SecretFault::NoBlock };
    assert_eq!(SecretState::from(&binary), expected);
}

#[test]
fn data_is_kept_only_while_it_is_wanted() {
    let mut secrets = Secrets::default();
    secrets.put(SecretSource::Tls, key(), &good("1"), false);
    assert_eq!(secrets.state(&key()), SecretState::Unavailable(None));
    assert!(secrets.needs_fetch(&key()));
    assert!(answer(&mut secrets, Some(&good("1"))));
    assert!(!secrets.needs_fetch(&key()));
    assert_eq!(secrets.state(&key()), SecretState::Certificate(certificate()));
    secrets.release(&key());
    assert_eq!(secrets.state(&key()), SecretState::Unavailable(None));
}

#[test]
fn a_newer_version_is_fetched_while_the_older_goes_on() {
    let mut secrets = Secrets::default();
    let meta = |version: &str| good(version).metadata;
    let first = secrets.put_metadata(SecretSource::Others, key(), &meta("1"), true);
    assert_eq!(first, SecretChange { changed: false, fetch: true });
    assert!(answer(&mut secrets, Some(&good("1"))));
    let same = secrets.put_metadata(SecretSource::Others, key(), &meta("1"), true);
    assert_eq!(same, SecretChange::default());
    let newer = secrets.put_metadata(SecretSource::Others, key(), &meta("2"), true);
    assert_eq!(newer, SecretChange { changed: false, fetch: true });
    assert_eq!(secrets.state(&key()), SecretState::Certificate(certificate()));
    assert!(secrets.fetch_failed(&key(), FetchFailure::Passing));
    assert_eq!(secrets.state(&key()), SecretState::Unavailable(Some(certificate())));
    assert!(answer(&mut secrets, Some(&secret("2", &[]))));
    let missing = SecretState::Invalid { key: "tls.crt", fault: SecretFault::Missing };
    assert_eq!(secrets.state(&key()), missing);
    secrets.put_metadata(SecretSource::Others, key(), &meta("3"), true);
    assert!(answer(&mut secrets, None));
    assert_eq!(secrets.state(&key()), SecretState::Missing);
}

#[test]
fn helms_secrets_do_not_exist() {
    let mut helm = good("2");
    helm.metadata.labels = Some([("owner".to_owned(), "helm".to_owned())].into());
    let mut secrets = Secrets::default();
    assert_eq!(secrets.put(SecretSource::Tls, key(), &helm, true), SecretChange::default());
    assert_eq!(secrets.state(&key()), SecretState::Missing);
    assert!(secrets.put(SecretSource::Tls, key(), &good("1"), true).changed);
    assert!(secrets.put(SecretSource::Tls, key(), &helm, true).changed);
    assert_eq!(secrets.state(&key()), SecretState::Missing);
}

#[test]
fn an_update_that_alters_nothing_that_is_read_is_no_change() {
    let mut secrets = Secrets::default();
    assert!(secrets.put(SecretSource::Tls, key(), &good("1"), true).changed);
    assert_eq!(secrets.put(SecretSource::Tls, key(), &good("2"), true), SecretChange::default());
    assert!(!secrets.needs_fetch(&key()));
}

#[test]
fn an_answer_about_a_secret_that_is_gone_says_nothing_of_the_one_that_was_made_again() {
    use SecretSource::{Others, Tls};
    let meta = |version: &str| good(version).metadata;
    // Made again as the type that it had, as the other one, and as the other one while the old one is still told of.
    for (source, gone) in [(Others, true), (Tls, true), (Tls, false)] {
        let mut secrets = Secrets::default();
        secrets.put_metadata(Others, key(), &meta("1"), true);
        let asked = secrets.ask(&key()).unwrap();
        if gone {
            secrets.remove(Others, &key());
        }
        match source {
            Others => drop(secrets.put_metadata(Others, key(), &meta("2"), true)),
            Tls => drop(secrets.put(Tls, key(), &good("2"), true)),
        }
        secrets.fetched(&key(), &asked, None);
        assert_eq!(secrets.tls.len() + secrets.others.len(), 1, "{source:?} {gone}");
        if source == Others {
            assert!(answer(&mut secrets, Some(&good("2"))));
        }
        assert_eq!(secrets.state(&key()), SecretState::Certificate(certificate()), "{source:?} {gone}");
    }
}

#[test]
fn one_that_changes_faster_than_it_can_be_read_is_unread_only_until_the_first_answer() {
    let meta = |version: &str| good(version).metadata;
    for fails in [false, true] {
        let mut secrets = Secrets::default();
        secrets.put_metadata(SecretSource::Others, key(), &meta("1"), true);
        assert!(secrets.is_unread(&key()));
        let asked = secrets.ask(&key()).unwrap();
        secrets.put_metadata(SecretSource::Others, key(), &meta("2"), true);
        if fails {
            secrets.fetch_failed(&key(), FetchFailure::Passing);
        } else {
            secrets.fetched(&key(), &asked, Some(&good("1")));
        }
        assert!(!secrets.is_unread(&key()), "fails: {fails}");
        secrets.put_metadata(SecretSource::Others, key(), &meta("3"), true);
        assert!(!secrets.is_unread(&key()) && secrets.needs_fetch(&key()), "fails: {fails}");
    }
}

#[test]
fn one_that_cannot_be_read_is_awaited_until_it_is_refused_for_good() {
    let mut secrets = Secrets::default();
    secrets.put_metadata(SecretSource::Others, key(), &good("1").metadata, true);
    assert!(
        secrets.fetch_failed(&key(), FetchFailure::Passing),
        "it is known for the first time that it can't be read"
    );
    assert!(secrets.is_awaited(&key()) && !secrets.is_unread(&key()));
    secrets.put_metadata(SecretSource::Others, key(), &good("2").metadata, true);
    assert!(secrets.is_awaited(&key()));
    secrets.fetch_failed(&key(), FetchFailure::Lasting);
    assert!(!secrets.is_awaited(&key()));
    secrets.fetch_failed(&key(), FetchFailure::Passing);
    assert!(!secrets.is_awaited(&key()), "whoever waits once waits no second time");
    answer(&mut secrets, Some(&good("2")));
    secrets.put_metadata(SecretSource::Others, key(), &good("3").metadata, true);
    secrets.fetch_failed(&key(), FetchFailure::Passing);
    assert!(!secrets.is_awaited(&key()), "an older version goes on");
}
