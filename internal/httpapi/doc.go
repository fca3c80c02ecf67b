// Package httpapi sends the HTTP requests of one account. Each concern is a link
// of a chain around the transport, in a file of its own, and [New] puts the chain
// together:
//
//	redirect → gate (quota) → timeout → observe → body limit → transport
//
// Everything that an account sends passes its [Gate]: logins, pages, redirects.
package httpapi
