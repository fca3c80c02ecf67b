package kit_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/kit"
)

func TestRefusal(t *testing.T) {
	answer := providers.Answer{Status: 503, Quote: providers.OneLine}
	for reason, does := range map[providers.Reason]string{
		providers.ReasonAuth:        "refuses the credentials",
		providers.ReasonForbidden:   "forbids the request",
		providers.ReasonNotFound:    "does not find what the request asks for",
		providers.ReasonBadRequest:  "refuses the request as invalid",
		providers.ReasonTLS:         "refuses the TLS version",
		providers.ReasonRateLimited: "refuses the request because its quota is used up",
		providers.ReasonUnavailable: "is unavailable",
		providers.ReasonTimeout:     "has timed out",
		providers.ReasonBadResponse: "gives an unexpected answer",
	} {
		require.Equal(t, &providers.Error{Reason: reason, Status: 503, Message: "8x8 " + does + " (HTTP status 503)"},
			kit.Refusal{Provider: "8x8", Reason: reason}.Error(answer))
	}
	for name, tt := range map[string]struct {
		refusal kit.Refusal
		want    providers.Error
	}{
		"everything": {
			kit.Refusal{Provider: "8x8", Reason: providers.ReasonAuth, Code: "1200", Text: "not\nauthenticated", ID: "db9dced4-3534", Advice: "check api_key"},
			providers.Error{Reason: providers.ReasonAuth, ID: "db9dced4-3534", Message: `8x8 refuses the credentials (HTTP status 503, code 1200): "not authenticated"; check api_key`},
		},
		"only a status": {
			kit.Refusal{Provider: "floLIVE", Reason: providers.ReasonUnavailable},
			providers.Error{Reason: providers.ReasonUnavailable, Message: "floLIVE is unavailable (HTTP status 503)"},
		},
		"an id that is none": {
			kit.Refusal{Provider: "8x8", Reason: providers.ReasonBadResponse, ID: "see http://example.com"},
			providers.Error{Reason: providers.ReasonBadResponse, Message: "8x8 gives an unexpected answer (HTTP status 503)"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tt.want.Status = 503
			require.Equal(t, &tt.want, tt.refusal.Error(answer))
		})
	}
}

func TestWhole(t *testing.T) {
	for _, status := range []int{0, 200, 201, 203, 207, 299, 404} {
		require.NoError(t, kit.Whole(status))
	}
	for _, status := range []int{202, 204, 205, 206} {
		require.EqualError(t, kit.Whole(status), fmt.Sprintf("status %d is not a whole answer", status))
	}
}
