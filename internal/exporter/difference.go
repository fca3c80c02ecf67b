package exporter

import (
	"fmt"
	"slices"
	"strings"

	"github.com/balance-exporter/balance_exporter/internal/cache"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
)

// maxNames bounds how many accounts a difference names of each kind.
const maxNames = 20

// difference is what a reload changes: names such as "8x8/messaging".
type difference struct{ added, changed, removed []string }

// compare returns what has changed from old to next.
func compare(old, next []cache.Account) (d difference) {
	digests := make(map[string]string, len(old))
	for _, a := range old {
		digests[a.Provider+"/"+a.Name] = a.ID + a.Digest
	}
	for _, a := range next {
		name := a.Provider + "/" + a.Name
		switch before, existed := digests[name]; {
		case !existed:
			d.added = append(d.added, name)
		case before != a.ID+a.Digest:
			d.changed = append(d.changed, name)
		}
		delete(digests, name)
	}
	for _, a := range old {
		if name := a.Provider + "/" + a.Name; digests[name] != "" {
			d.removed = append(d.removed, name)
		}
	}
	return d
}

// String returns the difference in one line.
func (d difference) String() string {
	var texts []string
	for _, part := range []struct {
		text  string
		names []string
	}{{"added", d.added}, {"changed", d.changed}, {"removed", d.removed}} {
		if n := len(part.names); n > 0 {
			text := fmt.Sprintf("%d %s: %s", n, part.text, strings.Join(part.names[:min(n, maxNames)], ", "))
			if n > maxNames {
				text += ", …"
			}
			texts = append(texts, text)
		}
	}
	if len(texts) == 0 {
		return "no account changed"
	}
	return strings.Join(texts, "; ")
}

// lowAmong returns the accounts in names whose balance is below their threshold, with
// the balance.
func lowAmong(names []string, accounts []snapshot.Account) (low []string) {
	for _, a := range accounts {
		name := a.Provider + "/" + a.Account
		if !slices.Contains(names, name) {
			continue
		}
		for _, s := range a.Sources {
			for _, b := range s.Balances {
				if s.Part.IsLowBalance(b) {
					low = append(low, fmt.Sprintf("%s (%v %s)", name, b.Amount, b.Currency))
				}
			}
		}
	}
	return low
}
