// Package e2e tests balance_exporter the way it is used: the built binary, scraped by
// a real Prometheus that loads the rules of examples/ and notifies a real Alertmanager.
// It has tests only; README.md says how to run them.
package e2e
