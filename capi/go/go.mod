module appxmpp/capi/go

go 1.21
