//! Who may ask, and what a browser may do with the answer.
//!
//! - The `Host` of a request is an address or `localhost`: a name that an attacker has pointed at this machine (DNS
//!   rebinding) is refused.
//! - A page of another site can neither read answers, which carry no permission for it, nor send requests: those that a
//!   browser marks as such are refused. Following a link to the page is all it can do.
//! - On another address than loopback a token is asked for, once as `?token=`, then as a cookie.
//! - Answers may only be used as what they are, inside the page, which loads nothing from elsewhere and runs no inline script.

use super::app::random_hex;
use super::failure::{Failure, Problem};
use crate::console;
use crate::error::Result;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

const HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
];

/// Who may ask.
pub struct Guard {
    loopback: bool,
    /// Name of the cookie: cookies of one host are those of all its ports.
    cookie: String,
    pub token: Option<String>,
    /// No line for a refusal.
    quiet: bool,
}

impl Guard {
    /// Of a server at this address.
    ///
    /// # Errors
    /// Where the system has no random numbers for a token.
    pub fn new(address: SocketAddr, quiet: bool) -> Result<Self> {
        let loopback = address.ip().is_loopback();
        let token = if loopback { None } else { Some(random_hex()?) };
        Ok(Self { loopback, cookie: format!("hexcuda-{}", address.port()), token, quiet })
    }

    fn check(&self, request: &Request) -> std::result::Result<(), Failure> {
        let forbidden = |problem: &str| Err(Failure::new(StatusCode::FORBIDDEN, problem));
        let headers = request.headers();
        let host = text(headers, header::HOST).and_then(host_of);
        if !host.as_deref().is_some_and(|host| self.is_known(host)) {
            return forbidden("the Host of the request is neither this server's address nor localhost");
        }
        let navigates = text(headers, HeaderName::from_static("sec-fetch-mode")) == Some("navigate");
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let site = text(headers, HeaderName::from_static("sec-fetch-site"));
        let foreign = matches!(site, Some("cross-site" | "same-site")) && !(navigates && reads);
        let origin = text(headers, header::ORIGIN);
        let other = origin.is_some_and(|origin| {
            let authority = origin.split_once("://").map(|(_, rest)| rest);
            authority.is_none() || authority != text(headers, header::HOST)
        });
        if foreign || other {
            return forbidden("the request comes from the page of another site");
        }
        match &self.token {
            Some(token) if !self.cookie_of(headers).is_some_and(|given| same(given, token)) => {
                let problem = "the token is missing or wrong: open the address that hexcuda serve printed";
                Err(Failure::new(StatusCode::UNAUTHORIZED, problem))
            }
            _ => Ok(()),
        }
    }

    /// A name could be anybody's; an address is the one that was connected to, or of something in front of it.
    fn is_known(&self, host: &str) -> bool {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        match bare.parse::<IpAddr>() {
            Ok(address) => address.is_loopback() || !self.loopback,
            Err(_) => host.eq_ignore_ascii_case("localhost"),
        }
    }

    fn cookie_of<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs =
            cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, _)| *name == self.cookie).map(|(_, value)| value)
    }

    /// The way in: a right `?token=` becomes a cookie, and the address loses it.
    fn enter(&self, request: &Request) -> Option<Response> {
        let token = self.token.as_ref()?;
        let host = text(request.headers(), header::HOST).and_then(host_of)?;
        let pairs = request.uri().query()?.split('&').filter_map(|pair| pair.split_once('='));
        let given = pairs.filter(|(name, _)| *name == "token").map(|(_, value)| value).next()?;
        if request.method() != Method::GET || !self.is_known(&host) || !same(given, token) {
            return None;
        }
        let cookie = format!("{}={token}; Path=/; HttpOnly; SameSite=Strict", self.cookie);
        let mut response = StatusCode::SEE_OTHER.into_response();
        response.headers_mut().insert(header::SET_COOKIE, HeaderValue::from_str(&cookie).ok()?);
        // Never `//host`: the start of a path is the page.
        response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/"));
        Some(response)
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The host of `host:port`.
fn host_of(text: &str) -> Option<String> {
    text.parse::<Authority>()
        .ok()
        .filter(|_| !text.contains('@'))
        .map(|authority| authority.host().to_string())
}

/// In a time that does not tell how much of it is right.
fn same(given: &str, expected: &str) -> bool {
    let pairs = given.bytes().zip(expected.bytes());
    given.len() == expected.len() && pairs.fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// Checks every request, and adds to every answer; a refusal is a line on stderr.
pub async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let asked = format!("{} {}", request.method(), request.uri().path().escape_debug());
    let mut response = match (guard.enter(&request), guard.check(&request)) {
        (Some(response), _) => response,
        (None, Ok(())) => next.run(request).await,
        (None, Err(failure)) => failure.into_response(),
    };
    let problem = response.extensions().get::<Problem>().filter(|_| !guard.quiet);
    if let Some(Problem(problem)) = problem {
        let shown: String = asked.chars().take(200).collect();
        console::note(format_args!("hexcuda: serve: {} {shown}: {problem}", response.status().as_u16()));
    }
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn asked(host: &str, more: &[(&str, &str)]) -> Request {
        let mut request = axum::http::Request::builder().uri("/api/runs").header("host", host);
        for (name, value) in more {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).unwrap()
    }

    fn status(guard: &Guard, request: Request) -> u16 {
        guard.check(&request).map_or_else(|failure| failure.status.as_u16(), |()| 200)
    }

    #[test]
    fn names_and_other_sites_are_refused() {
        let guard = Guard::new("127.0.0.1:7878".parse().unwrap(), true).unwrap();
        assert!(guard.token.is_none());
        for host in ["127.0.0.1:7878", "localhost:7878", "LOCALHOST", "[::1]:7878", "localhost:9000"] {
            assert_eq!(status(&guard, asked(host, &[])), 200, "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example:7878", "10.0.0.1:7878", "", "a@localhost", "[::1"]
        {
            assert_eq!(status(&guard, asked(host, &[])), 403, "{host}");
        }
        let host = "localhost:7878";
        assert_eq!(status(&guard, asked(host, &[("origin", "http://localhost:7878")])), 200);
        for origin in ["http://evil.example", "null", "http://localhost:1"] {
            assert_eq!(status(&guard, asked(host, &[("origin", origin)])), 403, "{origin}");
        }
        assert_eq!(status(&guard, asked(host, &[("sec-fetch-site", "cross-site")])), 403);
        let link = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
        assert_eq!(status(&guard, asked(host, &link)), 200);
    }

    #[test]
    fn another_address_asks_for_its_token() {
        let guard = Guard::new("192.0.2.1:80".parse().unwrap(), true).unwrap();
        let token = guard.token.clone().unwrap();
        let cookie = |value: &str| format!("a=b; hexcuda-80={value}");
        assert_eq!(status(&guard, asked("192.0.2.1", &[])), 401);
        assert_eq!(status(&guard, asked("192.0.2.1", &[("cookie", &cookie("0"))])), 401);
        assert_eq!(status(&guard, asked("192.0.2.1", &[("cookie", &cookie(&token))])), 200);
        assert_eq!(status(&guard, asked("evil.example", &[("cookie", &cookie(&token))])), 403);
        let enter = |query: &str| {
            let uri = format!("/{query}");
            let request = axum::http::Request::builder().uri(uri).header("host", "192.0.2.1");
            guard.enter(&request.body(Body::empty()).unwrap())
        };
        assert!(enter("").is_none() && enter("?token=0").is_none());
        let response = enter(&format!("?token={token}")).unwrap();
        let set = response.headers()["set-cookie"].to_str().unwrap();
        assert!(set.contains(&token) && set.contains("HttpOnly") && set.contains("SameSite=Strict"), "{set}");
    }
}
