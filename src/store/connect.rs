//! How the client is made: endpoint, region, credentials, TLS, the connection pool.
//!
//! Promises: one HTTP client, one pool and one TLS configuration, which the credential providers
//! share; the number of open connections to the store is bounded by the pool itself, and what an
//! answer may hold by `bounds.rs`, for credential providers too; nothing is sent to the store.
//! Where the endpoint is not AWS, looking for an instance role is cut short.
//! Never: retries (the SDK's own retries are off; `retry.rs` does it).

use std::{path::PathBuf, time::Duration};

use aws_config::{
    BehaviorVersion, SdkConfig,
    default_provider::credentials::DefaultCredentialsChain,
    environment::EnvironmentVariableRegionProvider,
    imds,
    meta::region::RegionProviderChain,
    profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider},
    provider_config::ProviderConfig,
    timeout::TimeoutConfig,
};
use aws_sdk_s3::{
    Client,
    config::{
        AppName, IdentityCache, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        SharedCredentialsProvider, SharedHttpClient, StalledStreamProtectionConfig,
        retry::RetryConfig,
    },
};
use aws_smithy_http_client::{pool, tls};
use aws_types::service_config::ServiceConfigKey;

use super::{
    StoreConfig, StoreError, StoreErrorKind, bounds::bounded, foreign::no_web_pages, profile,
    recorded::Recording, trust::trust_store,
};
use crate::record::Recorder;

/// A TCP connection, with its TLS handshake, takes no longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle connections are closed after this; S3 itself closes them not much later.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// An instance's metadata service is a link-local address: it answers at once or not at all.
const INSTANCE_METADATA_TIMEOUT: Duration = Duration::from_secs(1);
/// All credential providers together take no longer.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(5);
/// The region of every store that has none.
const REGION_DEFAULT: &str = "us-east-1";
const OPERATION: &str = "connect";

/// The client, with the facts about it that messages and bucket creation need.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) client: Client,
    /// For messages: the URL of the endpoint, or AWS and the region.
    pub(super) endpoint: String,
    pub(super) is_aws: bool,
    pub(super) region: String,
    /// Everything that passes is recorded there.
    pub(super) recorder: Option<Recorder>,
}

/// Finds all settings and makes the client. `network` takes the place of the connection pool.
pub(super) async fn connect(
    config: &StoreConfig,
    network: Option<SharedHttpClient>,
    recorder: Option<Recorder>,
) -> Result<Connected, StoreError> {
    let fail = |kind, what: String, advice: &str| {
        StoreError::new(kind, OPERATION, &config.url.bucket, what).advising(advice)
    };
    profile::check(config.profile.as_deref())
        .await
        .map_err(|(what, advice)| fail(StoreErrorKind::NoCredentials, what, &advice))?;
    let settings = shared_settings(config).await;
    let endpoint_url = config
        .endpoint_url
        .clone()
        .or_else(|| service_setting(&settings, "AWS_ENDPOINT_URL", "endpoint_url"));
    let endpoint_url = endpoint_url.or_else(|| settings.endpoint_url().map(str::to_owned));
    let endpoint = endpoint_url
        .as_deref()
        .map(Endpoint::parse)
        .transpose()
        .map_err(|why| fail(StoreErrorKind::Settings, why, "write https://host:port"))?;
    let is_aws = endpoint
        .as_ref()
        .is_none_or(|endpoint| is_aws(&endpoint.host));

    let network = match network {
        Some(network) => network,
        None => {
            let ca_bundle = match &config.ca_bundle {
                Some(path) => Some(path.clone()),
                None => service_setting(&settings, "AWS_CA_BUNDLE", "ca_bundle").map(PathBuf::from),
            };
            let trust = trust_store(ca_bundle)
                .await
                .map_err(|(what, advice)| fail(StoreErrorKind::Tls, what, advice))?;
            connection_pool(trust, config.connections_max)
                .map_err(|why| StoreError::new(StoreErrorKind::Other, OPERATION, "", why))?
        }
    };
    let path_style = config.path_style.unwrap_or(!is_aws);
    let recording = recorder.clone().map(|recorder| Recording {
        recorder,
        path_style,
        stall: config.stall_timeout,
    });
    let http = bounded(match recording {
        Some(recording) => recording.of(network),
        None => network,
    });

    let region = match settings.region() {
        Some(region) => region.clone(),
        None if !is_aws => Region::new(REGION_DEFAULT),
        None => instance_region(&http).await.ok_or_else(|| {
            fail(
                StoreErrorKind::Settings,
                "no region is set".to_owned(),
                "give --region, or set AWS_REGION; for a store that is not AWS, give --endpoint-url",
            )
        })?,
    };
    let credentials = credentials(config, &http, &region, is_aws).await;

    let mut builder = settled(aws_sdk_s3::config::Builder::from(&settings))
        .http_client(http)
        .region(region.clone())
        .credentials_provider(credentials)
        .force_path_style(path_style);
    if let Ok(name) = AppName::new("strongroom") {
        builder = builder.app_name(name);
    }
    let described = match endpoint {
        Some(endpoint) => {
            builder = builder.endpoint_url(endpoint.url.clone());
            endpoint.url
        }
        None => format!("AWS S3 in {region}"),
    };
    Ok(Connected {
        client: Client::from_conf(builder.build()),
        endpoint: described,
        is_aws,
        region: region.to_string(),
        recorder,
    })
}

/// The settings that nobody can change.
fn settled(builder: aws_sdk_s3::config::Builder) -> aws_sdk_s3::config::Builder {
    builder
        .interceptor(no_web_pages())
        .identity_cache(
            IdentityCache::lazy()
                .load_timeout(CREDENTIALS_TIMEOUT)
                .build(),
        )
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
}

/// A client whose answers come from `http`, within the same bounds and with the same settings.
#[cfg(any(fuzzing, test))]
pub(super) fn connected_to(http: SharedHttpClient) -> Connected {
    let credentials = aws_credential_types::Credentials::new("key", "secret", None, None, "test");
    let builder = settled(aws_sdk_s3::config::Builder::new())
        .behavior_version(aws_sdk_s3::config::BehaviorVersion::latest())
        .http_client(bounded(http))
        .region(Region::new(REGION_DEFAULT))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url("http://store")
        .force_path_style(true);
    Connected {
        client: Client::from_conf(builder.build()),
        endpoint: "http://store".to_owned(),
        is_aws: false,
        region: REGION_DEFAULT.to_owned(),
        recorder: None,
    }
}

/// All settings but credentials, the HTTP client and those of an instance's metadata service: reads
/// the environment and the profile files, sends nothing.
async fn shared_settings(config: &StoreConfig) -> SdkConfig {
    let mut profile_region = ProfileFileRegionProvider::builder();
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).no_credentials();
    if let Some(profile) = &config.profile {
        profile_region = profile_region.profile_name(profile);
        loader = loader.profile_name(profile);
    }
    let region = RegionProviderChain::first_try(config.region.clone().map(Region::new))
        .or_else(EnvironmentVariableRegionProvider::new())
        .or_else(profile_region.build());
    loader.region(region).load().await
}

/// A setting for S3 alone or for all services: `<ENV>_S3`, `<ENV>`, then the profile's `services`
/// section and the profile.
fn service_setting(settings: &SdkConfig, env: &str, profile: &str) -> Option<String> {
    let key = ServiceConfigKey::builder()
        .service_id("s3")
        .env(env)
        .profile(profile)
        .build()
        .ok()?;
    settings
        .service_config()?
        .load_config(key)
        .filter(|value| !value.is_empty())
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .build()
}

/// An endpoint as given, checked.
struct Endpoint {
    url: String,
    host: String,
}

impl Endpoint {
    fn parse(text: &str) -> Result<Endpoint, String> {
        // The text is not repeated before it is known to hold no password.
        let uri: http::Uri = text
            .parse()
            .map_err(|_| "the endpoint is not a URL".to_owned())?;
        let host = uri.host().unwrap_or_default();
        if uri
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'))
        {
            return Err("the endpoint's URL must not hold a user or a password".to_owned());
        }
        if !matches!(uri.scheme_str(), Some("http" | "https"))
            || host.is_empty()
            || uri.query().is_some()
        {
            return Err(format!("the endpoint {text} is not a URL of a store"));
        }
        Ok(Endpoint {
            url: text.trim_end_matches('/').to_owned(),
            host: host.to_ascii_lowercase(),
        })
    }
}

fn is_aws(host: &str) -> bool {
    [".amazonaws.com", ".amazonaws.com.cn", ".api.aws"]
        .iter()
        .any(|suffix| host.ends_with(suffix))
}

/// The only pool of the process. It bounds the connections to each host, those being made included.
fn connection_pool(
    trust: tls::TrustStore,
    connections_max: usize,
) -> Result<SharedHttpClient, String> {
    let context = tls::TlsContext::builder()
        .with_trust_store(trust)
        .build()
        .map_err(|error| error.to_string())?;
    // Connections live on the runtime that connected the store.
    let runtime = tokio::runtime::Handle::current();
    let spawner = pool::DriverSpawner::from_fn(move |driver| drop(runtime.spawn(driver)));
    let everything = pool::PartitionId::from_index(0);
    let pool = pool::ConnectionPool::builder()
        .partitions([pool::Partition::new(everything, spawner)])
        .idle_timeout(IDLE_TIMEOUT)
        .max_connections_per_host(connections_max.max(1))
        .tls_provider(tls::Provider::Rustls(
            tls::rustls_provider::CryptoMode::AwsLc,
        ))
        .tls_context(context)
        .build_https()
        .map_err(|error| error.to_string())?;
    let client =
        pool::Client::from_partition(&pool, everything).map_err(|error| error.to_string())?;
    Ok(SharedHttpClient::new(client))
}

/// One short question to the instance's metadata service.
fn instance_metadata(conf: &ProviderConfig) -> imds::Client {
    imds::Client::builder()
        .configure(conf)
        .max_attempts(1)
        .connect_timeout(INSTANCE_METADATA_TIMEOUT)
        .read_timeout(INSTANCE_METADATA_TIMEOUT)
        .operation_timeout(INSTANCE_METADATA_TIMEOUT)
        .build()
}

async fn instance_region(http: &SharedHttpClient) -> Option<Region> {
    let conf = ProviderConfig::without_region().with_http_client(http.clone());
    let client = instance_metadata(&conf);
    imds::region::ImdsRegionProvider::builder()
        .configure(&conf)
        .imds_client(client)
        .build()
        .region()
        .await
}

/// A profile that was asked for by name is the only source; otherwise the chain that AWS users
/// know.
async fn credentials(
    config: &StoreConfig,
    http: &SharedHttpClient,
    region: &Region,
    is_aws: bool,
) -> SharedCredentialsProvider {
    let conf = ProviderConfig::without_region()
        .with_http_client(http.clone())
        .with_region(Some(region.clone()));
    if let Some(profile) = &config.profile {
        let provider = ProfileFileCredentialsProvider::builder()
            .configure(&conf)
            .profile_name(profile)
            .build();
        return SharedCredentialsProvider::new(provider);
    }
    let mut chain = DefaultCredentialsChain::builder()
        .configure(conf.clone())
        .region(region.clone());
    if !is_aws {
        chain = chain.imds_client(instance_metadata(&conf));
    }
    SharedCredentialsProvider::new(chain.build().await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_aws_are_told_from_others() {
        for host in [
            "s3.eu-central-1.amazonaws.com",
            "bucket.vpce-1.s3.us-east-1.vpce.amazonaws.com",
            "s3.cn-north-1.amazonaws.com.cn",
        ] {
            assert!(is_aws(host), "{host}");
        }
        for host in [
            "localhost",
            "127.0.0.1",
            "minio.example.com",
            "amazonaws.com.example.org",
        ] {
            assert!(!is_aws(host), "{host}");
        }
    }

    #[test]
    fn an_endpoint_is_checked_and_a_password_in_it_is_not_repeated() {
        assert_eq!(
            Endpoint::parse("http://127.0.0.1:9000/").map(|e| (e.url, e.host)),
            Ok(("http://127.0.0.1:9000".into(), "127.0.0.1".into()))
        );
        for text in [
            "127.0.0.1:9000",
            "ftp://host",
            "https://",
            "https://host/?x=1",
        ] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
        let error = Endpoint::parse("https://user:hunter2@host")
            .map(|e| e.url)
            .unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
