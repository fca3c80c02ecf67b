// Package simulate is a network inside the process, for tests and for the demo:
// a real [net/http.Server] for each host, reached through [Network.DialContext]
// over connections in memory; faults as middleware; and a record of the requests
// that arrived.
//
// It opens no sockets and blocks only on what [testing/synctest] calls durable,
// so it works in a bubble, where a minute's timeout takes no time. There
// [Network.Close] must be called before the bubble ends, for example by
// t.Cleanup.
package simulate
