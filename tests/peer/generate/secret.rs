//! Secrets: a certificate each, most of them good. The content names the Secret, so that it can be told whose a
//! certificate in the routing is.

use serde_json::{Value, json};

use super::Maker;

/// What every content of a cluster's Secrets holds.
pub fn mark(cluster: &str) -> String {
    format!("#{cluster};")
}

impl Maker<'_> {
    pub(super) fn secret(&mut self, namespace: &str, name: &str) -> Value {
        let mark = mark(self.cluster);
        let pem =
            |what: &str| format!("-----BEGIN {what}-----\n{namespace}/{name}{mark}\n-----END {what}-----\n");
        let (mut certificate, mut key) = (pem("CERTIFICATE"), pem("PRIVATE KEY"));
        let mut kind = *self.random.pick(&["kubernetes.io/tls", "kubernetes.io/tls", "Opaque"]);
        let mut data = json!({});
        let mut labels = json!({});
        match self.random.below(16) {
            0 => certificate = format!(" \n\t{certificate}"),
            1 => certificate = format!("text before {certificate}"),
            2 => certificate = format!("/no/such/file{mark}"),
            3 => key = format!("not PEM {mark}"),
            4 => certificate.clear(),
            5 => key.clear(),
            6 => certificate.push_str("{{ env \"HOME\" }} `\"\\ %s ü"),
            7 => labels = json!({"owner": "helm"}),
            8 => labels = json!({"owner": "somebody"}),
            9 => kind = "Opaque",
            _ => data = json!({"ca.crt": base64(pem("CERTIFICATE").as_bytes())}),
        }
        let absent = if kind == "Opaque" { self.random.below(10) } else { 9 };
        if absent != 0 {
            data["tls.crt"] = base64(certificate.as_bytes()).into();
        }
        if absent != 1 {
            data["tls.key"] = base64(key.as_bytes()).into();
        }
        json!({"apiVersion": "v1", "kind": "Secret", "type": kind,
               "metadata": {"namespace": namespace, "name": name, "labels": labels}, "data": data})
    }
}

/// RFC 4648, as Kubernetes writes bytes.
pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for position in 0..4 {
            if position <= chunk.len() {
                text.push(char::from(LETTERS[(bits >> (18 - 6 * position)) as usize & 63]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

/// RFC 4648; what is no base64 ends the bytes.
pub fn unbase64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => break,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    bytes
}
