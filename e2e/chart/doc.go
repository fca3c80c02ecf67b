// Package chart tests the Helm chart through Helm's library, and renders
// examples/kubernetes from it. It is a module of its own because Helm requires other
// versions of Kubernetes' packages than Prometheus.
package chart
