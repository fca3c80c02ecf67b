package state

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// URL says where a store is. The zero value is the memory of the process.
type URL struct {
	path   string  // of a file; empty for none
	server *server // nil for none
}

// server is a Redis or Valkey server.
type server struct {
	addresses []string // of the server; of its Sentinels if master is set
	master    string   // the name that the Sentinels know; empty for no Sentinels
	user      string   // empty for the default user
	db        int
	tls       bool
}

const forms = "memory:, sqlite:PATH, redis://[USER@]HOST:PORT[/DB], rediss://[USER@]HOST:PORT[/DB] or redis-sentinel://[USER@]HOST:PORT[,HOST:PORT...]/MASTER[/DB]"

// ParseURL checks the URL of a store: "memory:", "sqlite:PATH",
// "redis://[USER@]HOST:PORT[/DB]", the same with "rediss://" for TLS, or
// "redis-sentinel://[USER@]HOST:PORT[,HOST:PORT…]/MASTER[/DB]". No error quotes what
// follows the scheme, because it may hold a password.
func ParseURL(text string) (URL, error) {
	scheme, rest, _ := strings.Cut(text, ":")
	switch {
	case text == "memory:":
		return URL{}, nil
	case scheme == "memory":
		return URL{}, errors.New("expected memory:, without a path")
	case scheme == "sqlite" && rest == "":
		return URL{}, errors.New("expected sqlite:PATH with the path of a file")
	case scheme == "sqlite":
		return URL{path: rest}, nil
	case scheme == "redis", scheme == "rediss", scheme == "redis-sentinel":
		s, err := parseServer(scheme, rest)
		return URL{server: s}, err
	}
	return URL{}, fmt.Errorf("unknown scheme %q, expected %s", scheme, forms)
}

// Shared reports whether several processes can use the store at the same time.
func (u URL) Shared() bool { return u.server != nil }

func parseServer(scheme, rest string) (*server, error) {
	rest, ok := strings.CutPrefix(rest, "//")
	if !ok || strings.ContainsAny(rest, "?#") {
		return nil, fmt.Errorf("malformed URL, expected %s", forms)
	}
	s := &server{tls: scheme == "rediss"}
	authority, path, _ := strings.Cut(rest, "/")
	if i := strings.LastIndex(authority, "@"); i >= 0 {
		user := authority[:i]
		if strings.Contains(user, ":") {
			return nil, errors.New("a password in the URL is visible in the process list; remove it and give --state.password-file")
		}
		var err error
		if s.user, err = url.PathUnescape(user); err != nil {
			return nil, errors.New("the user has a bad %-encoding")
		}
		authority = authority[i+1:]
	}
	parts := strings.Split(path, "/")
	if scheme == "redis-sentinel" {
		if s.master, parts = parts[0], parts[1:]; s.master == "" {
			return nil, fmt.Errorf("the name of the master is missing, expected %s", forms)
		}
	}
	if len(parts) > 1 {
		return nil, fmt.Errorf("malformed path, expected %s", forms)
	}
	if len(parts) == 1 && parts[0] != "" {
		db, err := strconv.Atoi(parts[0])
		if err != nil || db < 0 {
			return nil, errors.New("the database is not a number, expected one such as /0 at the end")
		}
		s.db = db
	}
	for _, address := range strings.Split(authority, ",") {
		host, port, err := net.SplitHostPort(address)
		if n, portErr := strconv.ParseUint(port, 10, 16); err != nil || host == "" || portErr != nil || n == 0 {
			return nil, errors.New("expected HOST:PORT with a port from 1 to 65535, such as localhost:6379 or [::1]:6379")
		}
		s.addresses = append(s.addresses, address)
	}
	if s.master == "" && len(s.addresses) > 1 {
		return nil, fmt.Errorf("more than one address needs Sentinel, expected %s", forms)
	}
	return s, nil
}
