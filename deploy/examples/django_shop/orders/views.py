"""Orders over HTTP, in JSON.

POST /orders                {"customer": "ada@example.net", "article": "a lamp"}: an order with its confirmation, or neither
GET  /orders/{number}       the order, and how far its confirmation is
POST /orders/{number}/thank a word of thanks, in Django's own way of sending mail
"""

import json

from django.core.mail import EmailMultiAlternatives
from django.db import IntegrityError, transaction
from django.db.models import F
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from mailfleet import InvalidMail, Mail
from mailfleet.django import emit, mailer

from .models import Order, Stock


@csrf_exempt
@require_POST
def take_order(request: HttpRequest) -> JsonResponse:
    """Take an order and confirm it; when the block raises, neither is there."""
    wanted = json.loads(request.body)
    try:
        with transaction.atomic():
            order = Order.objects.create(customer=wanted["customer"], article=wanted["article"])
            order.mail_id = emit(
                Mail(
                    from_="Shop <orders@shop.example>",
                    to=order.customer,
                    subject=f"Your order {order.pk}",
                    text=f"Thank you for ordering {order.article}.\n",
                    ref=("order", str(order.pk), ""),
                    idempotency_key=f"order-{order.pk}",
                )
            )
            order.save(update_fields=["mail_id"])
            # The last one is gone: the database refuses, and there was no order.
            Stock.objects.filter(article=order.article).update(pieces=F("pieces") - 1)
    except InvalidMail as error:
        return JsonResponse({"detail": str(error)}, status=422)
    except IntegrityError:
        return JsonResponse({"detail": f"there is no {wanted['article']} left"}, status=409)
    return JsonResponse({"number": order.pk}, status=201)


@require_GET
def show_order(_request: HttpRequest, number: int) -> JsonResponse:
    """The order, and how far its confirmation is."""
    order = get_object_or_404(Order, pk=number)
    status = mailer().status(order.mail_id)
    mail = {"state": status.state.value, "reason": status.reason}
    return JsonResponse({"number": order.pk, "article": order.article, "mail": mail})


@csrf_exempt
@require_POST
def thank(_request: HttpRequest, number: int) -> JsonResponse:
    """Thank for an order: nothing here knows of mailfleet, which is Django's EMAIL_BACKEND."""
    order = get_object_or_404(Order, pk=number)
    message = EmailMultiAlternatives(
        subject=f"Thanks for order {number}", body="You were our first customer today.\n", to=[order.customer]
    )
    message.attach_alternative("<p>You were our <b>first</b> customer today.</p>", "text/html")
    message.attach("voucher.txt", "17 EUR\n", "text/plain")
    return JsonResponse({"messages": message.send()})
