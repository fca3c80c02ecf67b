package flolivesim

// Bodies for tests. Send one with [Server.Fail].
const (
	// SampleBalance is documented at
	// https://kb.flolive.net/Content/API/Subscriber/Get%20Subscriber%20Balance.htm.
	SampleBalance = `{"errorCode":"","errorMessage":"","content":[{"balanceId":"e7fcef24-5c03-41dd-9e33-995b7d6f32b1","currency":"KB","value":50.3}],"pageable":{"page":0,"size":10,"totalPages":1,"totalElements":1}}`
	// SampleFailure is documented on the same page.
	SampleFailure = `{"errorCode":"SUBSCRIBER_1006","errorMessage":"Failed to retrieve subscriber details","content":"","pageable":""}`
	// SampleMixed has documented fields: both spellings of the id, a value as
	// a string, money and messages.
	SampleMixed = `{"errorCode":"","errorMessage":"","content":[{"balanceID":"0f0e0d0c-0000-4000-8000-000000000001","currency":"USD","value":12.75},{"balanceId":"0f0e0d0c-0000-4000-8000-000000000002","currency":"SMS","value":"40"}],"pageable":{"page":0,"size":10,"totalPages":1,"totalElements":2}}`
	// SampleUnavailable has documented fields.
	SampleUnavailable = `{"errorCode":"GLOBAL_1001","errorMessage":"Service unavailable. Please try again","content":"","pageable":""}`
	// SampleLogin has the token in the place where it was observed.
	SampleLogin = `{"errorCode":"","errorMessage":"","content":[{"token":"eyJ.a.x"}],"pageable":""}`
	// SampleChildren is documented, here shortened, at
	// https://kb.flolive.net/Content/API/Customer/Get%20Customer%20Children.htm,
	// which the simulator does not serve.
	SampleChildren = `{"errorCode":"","errorMessage":"","content":[{"customerId":"e7fcef24-5c03-41dd-9e33-995b7d6f47b5","customerName":"Customer A"}],"pageable":{"page":0,"size":10,"totalPages":1,"totalElements":1}}`
)
