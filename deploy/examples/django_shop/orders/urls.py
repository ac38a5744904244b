"""Where the shop's views are found."""

from django.urls import path

from . import views

urlpatterns = [
    path("orders", views.take_order),
    path("orders/<int:number>", views.show_order),
    path("orders/<int:number>/thank", views.thank),
]
