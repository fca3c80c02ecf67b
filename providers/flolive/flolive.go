// Package flolive reads what is left on the plans of an account's subscribers,
// which are SIM cards, through the floLIVE Public API:
//
//	directory (list.go, csv.go, listing.go) → subscriber (subscriber.go, offers.go)
//	→ request (client.go, auth.go) → answer (answer.go) → wire structs (wire.go) → domain
//
// The API is thinly documented: HTTP statuses of errors, paging and the life of
// tokens are not. So a body decides first and its status second, and every variant
// that was seen anywhere is accepted:
// https://kb.flolive.net/Content/API/Subscriber/Get%20Subscriber%20Balance.htm
package flolive

import (
	"time"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/providers"
)

// Provider is the floLIVE Public API. Its base URL is that of the portal; the
// documentation prints paths only, and resellers may have hosts of their own.
var Provider = providers.Provider{
	Name:      "flolive",
	BaseURL:   "https://floportal.flolive.net",
	RateLimit: quota.Limit{Requests: 2, Per: time.Second, Burst: 2},
	Configure: configure,
}

// account is what all subscribers of an opened account share.
type account struct {
	http     providers.HTTP
	auth     credentials
	interval time.Duration
	warn     func(msg string, args ...any)
	taken    taken

	sources []providers.Source
}

// Sources implements [providers.Account]: the subscribers of the list, and those
// sources that find others.
func (a *account) Sources() []providers.Source { return a.sources }
