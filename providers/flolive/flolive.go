// Package flolive reads the balances of an account's subscribers, which are SIM
// cards, through the floLIVE Public API:
//
//	configuration, file and listing (config.go, csv.go, listing.go) → roster
//	(roster.go) → subscriber (subscriber.go, offers.go) → request (answer.go,
//	login.go) → whole list (pages.go, tally.go) → answer (wire.go) → domain
//
// The API is thinly documented: HTTP statuses of errors, paging and the life of
// tokens are not. So a body decides first and its status second, every known
// variant is accepted, and a list counts only if it proves to be whole:
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

// account is what all sources of an opened account share.
type account struct {
	auth       authenticator
	interval   time.Duration
	warn       func(msg string, args ...any)
	configured configured

	balances, offers unpaged // lists of each kind
}

// warnIfShrunk reports a list that has lost more than half of its subscribers.
// Such a list is accepted: it is whole.
func (a *account) warnIfShrunk(list string, before, after int) {
	if 2*after < before {
		a.warn("a list of subscribers has shrunk by more than half", "list", list, "before", before, "after", after)
	}
}
