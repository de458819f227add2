module appxmpp/examples/go

go 1.21

require appxmpp/capi/go v0.0.0

// In a project of your own: the folder where you keep capi/go of appxmpp.
replace appxmpp/capi/go => ../../capi/go
