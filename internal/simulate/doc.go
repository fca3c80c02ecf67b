// Package simulate is a network inside the process, for tests and for the
// demo: an [http.RoundTripper] over handlers, faults as middleware, and a
// record of the requests that arrived.
//
// It opens no sockets and blocks only on channels, so it works in a
// [testing/synctest] bubble, where a minute's timeout takes no time.
package simulate
