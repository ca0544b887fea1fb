//! Tests of `client.rs` that need no API server.

use super::*;

const HUSH: &str = "hush-hush";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn environment(&self, variables: &[(&str, &str)]) -> Environment {
        Environment {
            variables: variables.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            service_account: self.0.path().to_owned(),
            context: None,
        }
    }
}

fn access(endpoint: &str, token: &str, ca: &str) -> Access {
    Access {
        endpoint: (!endpoint.is_empty()).then(|| endpoint.parse().unwrap()),
        token: (!token.is_empty()).then(|| Token::new(token)),
        cert_auth_file_path: (!ca.is_empty()).then(|| ca.into()),
    }
}

async fn connect(access: &Access, environment: &Environment) -> Result<Connection, ConnectError> {
    super::connect(access, environment, "me", &Metrics::new("x").unwrap()).await
}

async fn refused(access: &Access, environment: &Environment) -> String {
    let Err(error) = connect(access, environment).await else { unreachable!("it was taken") };
    let mut text = format!("{error:?}\n");
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = cause {
        text.push_str(&format!("{error}\n"));
        cause = error.source();
    }
    assert!(!text.contains(HUSH), "{text}");
    error.to_string()
}

#[test]
fn the_ways_come_in_the_order_of_traefik() {
    let folder = Folder::new();
    let host = ("KUBERNETES_SERVICE_HOST", "10.0.0.1");
    let port = ("KUBERNETES_SERVICE_PORT", "443");
    let file = ("KUBECONFIG", "/x");
    for (variables, wanted) in [
        (vec![host, port, file], Way::InCluster),
        (vec![host, file], Way::Kubeconfig),
        (vec![host, ("KUBERNETES_SERVICE_PORT", ""), file], Way::Kubeconfig),
        (vec![host, port], Way::InCluster),
        (vec![("KUBECONFIG", "")], Way::Endpoint),
        (vec![], Way::Endpoint),
    ] {
        assert_eq!(way(&folder.environment(&variables)), wanted, "{variables:?}");
    }
}

#[tokio::test]
async fn plain_http_needs_neither_token_nor_authorities() {
    let folder = Folder::new();
    let made = connect(&access("http://127.0.0.1:8001", "", ""), &folder.environment(&[])).await.unwrap();
    assert_eq!((made.way, made.warnings.len()), (Way::Endpoint, 0));
    let made = connect(&access("http://10.1.2.3:8001", HUSH, ""), &folder.environment(&[])).await.unwrap();
    assert!(made.warnings[0].contains("without encryption") && !made.warnings[0].contains(HUSH));
}

#[tokio::test]
async fn what_can_not_be_used_is_said_with_option_value_and_remedy() {
    let folder = Folder::new();
    let outside = folder.environment(&[]);
    let no_pem = folder.write("no.pem", HUSH);
    for (given, wanted) in [
        (access("", HUSH, ""), vec![ENDPOINT, "KUBECONFIG"]),
        (access("https://x", HUSH, "/not/there.pem"), vec![CA, "/not/there.pem"]),
        (access("https://x", HUSH, &no_pem), vec![CA, "PEM"]),
        (access("http://x", "hush-hush\nhush-hush", ""), vec![TOKEN, "line break"]),
    ] {
        let text = refused(&given, &outside).await;
        for part in wanted {
            assert!(text.contains(part), "{part:?} is not in {text:?}");
        }
    }
}

#[tokio::test]
async fn in_a_cluster_files_that_are_missing_are_named() {
    let folder = Folder::new();
    let inside =
        folder.environment(&[("KUBERNETES_SERVICE_HOST", "fd00::1"), ("KUBERNETES_SERVICE_PORT", "443")]);
    let text = refused(&Access::default(), &inside).await;
    assert!(text.contains("ca.crt"), "{text}");
    folder.write("ca.crt", "");
    let text = refused(&Access::default(), &inside).await;
    assert!(text.contains("automountServiceAccountToken") && text.contains("token"), "{text}");
    // An endpoint without TLS needs no file at all.
    let made = connect(&access("http://127.0.0.1:1", "", ""), &inside).await.unwrap();
    assert_eq!((made.way, made.address.as_str()), (Way::InCluster, "http://127.0.0.1:1/"));
    for (host, port) in [("10.0.0.1", "99999"), ("a b", "443"), ("10.0.0.1", "x")] {
        let odd = [("KUBERNETES_SERVICE_HOST", host), ("KUBERNETES_SERVICE_PORT", port)];
        let text = refused(&Access::default(), &folder.environment(&odd)).await;
        assert!(text.contains(&format!("\"https://{host}:{port}\" is no")), "{text}");
    }
}

#[tokio::test]
async fn a_kubeconfig_that_can_not_be_used_is_not_quoted() {
    let folder = Folder::new();
    let cases = [
        ("users: [{name: a, user: {token: [hush-hush]}}]", "line 1"),
        ("{token: hush-hush", "not a kubeconfig"),
        ("users: [{name: a, user: {token: hush-hush}}]", "current context"),
    ];
    for (text, wanted) in cases {
        let path = folder.write("config", text);
        let error = refused(&Access::default(), &folder.environment(&[("KUBECONFIG", &path)])).await;
        assert!(error.contains(&path) && error.contains(wanted), "{error}");
    }
    let error = refused(&Access::default(), &folder.environment(&[("KUBECONFIG", "/not/there")])).await;
    assert!(error.contains("/not/there"), "{error}");
}

#[tokio::test]
async fn beside_a_kubeconfig_the_third_way_is_ignored_with_warnings() {
    let folder = Folder::new();
    let token = folder.write("token", "abc\n");
    let config = folder.write(
        "config",
        &format!(
            "current-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
             clusters: [{{name: k, cluster: {{server: 'http://127.0.0.1:1'}}}}]\n\
             users: [{{name: u, user: {{tokenFile: '{token}'}}}}]\n"
        ),
    );
    let list = format!(":{config}");
    let made = connect(&access("https://x", HUSH, "/x.pem"), &folder.environment(&[("KUBECONFIG", &list)]))
        .await
        .unwrap();
    assert_eq!((made.way, made.address.as_str()), (Way::Kubeconfig, "http://127.0.0.1:1/"));
    let said = made.warnings.join("\n");
    assert_eq!(made.warnings.len(), 3, "{said}");
    assert!(said.contains("\"https://x/\" is ignored") && !said.contains(HUSH), "{said}");
}

#[test]
fn the_user_agent_is_a_header_whatever_the_identity() {
    let agent = user_agent("pod-1_ab (ü)\n");
    let wanted = concat!("waybill/", env!("CARGO_PKG_VERSION"), " (pod-1_ab_____)");
    assert_eq!(agent.to_str().unwrap(), wanted);
}
