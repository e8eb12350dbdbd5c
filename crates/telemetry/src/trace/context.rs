//! W3C trace context: a trace that goes on from caller to us, and its name for the answer.

use std::collections::HashMap;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

const TRACEPARENT: &str = "traceparent";

/// Makes a span part of the caller's trace. Only for callers that are trusted: whoever names a trace
/// decides whether it is sampled. What is no trace context changes nothing.
pub fn adopt(span: &Span, traceparent: &str) {
    if span.is_disabled() || traceparent.len() > 128 {
        return;
    }
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let context = TraceContextPropagator::new().extract(&carrier);
    if context.span().span_context().is_valid() {
        // A span that has begun already keeps its own trace.
        drop(span.set_parent(context));
    }
}

/// The `traceparent` of a span; `None` when there are no traces.
#[must_use]
pub fn traceparent(span: &Span) -> Option<String> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    if !context.span().span_context().is_valid() {
        return None;
    }
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&context, &mut carrier);
    carrier.remove(TRACEPARENT)
}
