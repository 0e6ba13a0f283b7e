//! Providers that are called by HTTP.

use std::{fs, time::Duration};

use bellwether_config::sections::vip::Provider;
use reqwest::{Client, Method, RequestBuilder, StatusCode, header::CONTENT_TYPE};
use serde_json::{Value, json};

use super::{Order, Trouble};

const ROBOT: &str = "https://robot-ws.your-server.de";
const CLOUD: &str = "https://api.hetzner.cloud/v1";
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);

/// A failover IP of Hetzner's Robot: routed to the main address of a server.
pub(super) async fn hetzner_robot(provider: &Provider, order: &Order) -> Result<(), Trouble> {
    let credentials = credentials(provider)?;
    let (user, password) = credentials
        .split_once(':')
        .ok_or_else(|| Trouble::Refused("the credentials are not of the form `user:password`".to_owned()))?;
    let server = provider.server.clone().unwrap_or_default();
    let address = provider.id.as_ref().unwrap_or(&order.address);
    let url = format!("{}/failover/{address}", base(provider, ROBOT));
    let client = client(provider)?;
    let active = async || {
        let answer = send(client.get(&url).basic_auth(user, Some(password))).await?;
        Ok(answer
            .pointer("/failover/active_server_ip")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned())
    };
    if active().await? == server {
        return Ok(());
    }
    let switch = client
        .post(&url)
        .basic_auth(user, Some(password))
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(format!("active_server_ip={server}"));
    match send(switch).await {
        // Somebody was faster, perhaps ourselves.
        Ok(_) | Err(Trouble::Again(_)) => {}
        Err(refused) => return Err(refused),
    }
    mismatch(&active().await?, &server)
}

/// A floating IP of Hetzner's cloud: assigned to a server by its number.
pub(super) async fn hetzner_cloud(provider: &Provider, order: &Order) -> Result<(), Trouble> {
    let token = credentials(provider)?;
    let server = provider.server.clone().unwrap_or_default();
    let number: u64 =
        server.parse().map_err(|_| Trouble::Refused(format!("`{server}` is no number of a server")))?;
    let id = provider.id.clone().unwrap_or_else(|| order.address.clone());
    let url = format!("{}/floating_ips/{id}", base(provider, CLOUD));
    let client = client(provider)?;
    let assigned = async || {
        let answer = send(client.get(&url).bearer_auth(&token)).await?;
        let server = answer.pointer("/floating_ip/server").and_then(Value::as_u64);
        Ok(server.map(|server| server.to_string()).unwrap_or_default())
    };
    if assigned().await? == server {
        return Ok(());
    }
    let assign = client.request(Method::POST, format!("{url}/actions/assign")).bearer_auth(&token);
    send(assign.json(&json!({"server": number}))).await?;
    mismatch(&assigned().await?, &server)
}

/// Whatever stands behind an address of the site's own.
pub(super) async fn webhook(provider: &Provider, order: &Order) -> Result<(), Trouble> {
    let url = provider.url.clone().unwrap_or_default();
    let mut request = client(provider)?.post(url).json(order);
    if provider.credentials_file.is_some() {
        request = request.bearer_auth(credentials(provider)?);
    }
    send(request).await.map(|_| ())
}

fn mismatch(found: &str, wanted: &str) -> Result<(), Trouble> {
    if found == wanted {
        return Ok(());
    }
    Err(Trouble::Again(format!("it was told to lead to {wanted}, and leads to `{found}`")))
}

fn base<'a>(provider: &'a Provider, default: &'a str) -> &'a str {
    provider.url.as_deref().unwrap_or(default).trim_end_matches('/')
}

fn credentials(provider: &Provider) -> Result<String, Trouble> {
    let Some(path) = &provider.credentials_file else { return Ok(String::new()) };
    let read = fs::read_to_string(path).map(|text| text.trim().to_owned());
    read.map_err(|error| Trouble::Refused(format!("{} cannot be read: {error}", path.display())))
}

fn client(provider: &Provider) -> Result<Client, Trouble> {
    let client = Client::builder().timeout(provider.timeout).connect_timeout(CONNECTED_WITHIN).build();
    client.map_err(|error| Trouble::Refused(error.to_string()))
}

/// The answer, if it is one of success; `null` if it is no JSON.
async fn send(request: RequestBuilder) -> Result<Value, Trouble> {
    // Without the URL: a webhook's may hold a secret.
    let failed = |error: reqwest::Error| Trouble::Again(error.without_url().to_string());
    let answer = request.send().await.map_err(failed)?;
    let status = answer.status();
    let text = answer.text().await.map_err(failed)?;
    if status.is_success() {
        return Ok(serde_json::from_str(&text).unwrap_or(Value::Null));
    }
    let told: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    let told = told.pointer("/error/message").and_then(Value::as_str).unwrap_or_default();
    let why = format!("{status} {told}").trim().to_owned();
    let may_pass = matches!(
        status,
        StatusCode::CONFLICT
            | StatusCode::LOCKED
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::REQUEST_TIMEOUT
    ) || status.is_server_error();
    Err(if may_pass { Trouble::Again(why) } else { Trouble::Refused(why) })
}
