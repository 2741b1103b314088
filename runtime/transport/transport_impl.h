/* transport_impl.h - listening and dialling on the env's own sockets; for tcp.c and unix.c only. */
#ifndef HOLT_TRANSPORT_TRANSPORT_IMPL_H
#define HOLT_TRANSPORT_TRANSPORT_IMPL_H

#include "transport/transport.h"

int holt__socket_listen(struct holt_transport *transport, const char *address, holt_accept_cb cb, void *arg,
                        struct holt_transport_handle **out, char actual[128], struct holt_err *err);
struct holt_transport_handle *holt__socket_dial(struct holt_transport *transport, const char *address,
                                                holt_dial_cb cb, void *arg);
void holt__socket_free(struct holt_transport *transport);

#endif /* HOLT_TRANSPORT_TRANSPORT_IMPL_H */
