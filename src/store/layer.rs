//! The frames that the SDK wants around a layer between it and the connection pool, and around a
//! look at the head of an answer.

use std::fmt;

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        connector_metadata::ConnectorMetadata,
        http::{HttpClient, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector},
        interceptors::{
            Intercept, context::BeforeDeserializationInterceptorContextRef, dyn_dispatch_hint,
        },
        orchestrator::HttpResponse,
        runtime_components::{RuntimeComponents, RuntimeComponentsBuilder},
    },
};
use aws_smithy_types::config_bag::ConfigBag;

/// A layer: something around each connector of the client below it.
pub(super) trait Layer: fmt::Debug + Send + Sync + 'static {
    /// The connector with this around it.
    fn around(&self, below: SharedHttpConnector) -> SharedHttpConnector;
}

/// The client with a layer around each connector that it makes.
pub(super) fn layered(below: SharedHttpClient, layer: impl Layer) -> SharedHttpClient {
    SharedHttpClient::new(Layered { below, layer })
}

#[derive(Debug)]
struct Layered<L> {
    below: SharedHttpClient,
    layer: L,
}

impl<L: Layer> HttpClient for Layered<L> {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        self.layer
            .around(self.below.http_connector(settings, components))
    }

    fn validate_base_client_config(
        &self,
        components: &RuntimeComponentsBuilder,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.below.validate_base_client_config(components, config)
    }

    fn validate_final_config(
        &self,
        components: &RuntimeComponents,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.below.validate_final_config(components, config)
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.below.connector_metadata()
    }
}

type Look = dyn Fn(&HttpResponse) -> Result<(), BoxError> + Send + Sync;

/// Looks at each answer before anything is read from it. An error of `look` is that of the request.
pub(super) fn on_answer(
    look: impl Fn(&HttpResponse) -> Result<(), BoxError> + Send + Sync + 'static,
) -> impl Intercept {
    OnAnswer(Box::new(look))
}

struct OnAnswer(Box<Look>);

impl fmt::Debug for OnAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnAnswer").finish_non_exhaustive()
    }
}

#[dyn_dispatch_hint]
impl Intercept for OnAnswer {
    fn name(&self) -> &'static str {
        "OnAnswer"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        (self.0)(context.response())
    }
}
