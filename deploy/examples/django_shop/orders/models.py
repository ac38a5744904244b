"""What the shop keeps; mailfleet's tables are none of it."""

from django.db import models


class Order(models.Model):
    """What somebody ordered, and the mail that confirms it."""

    customer = models.EmailField()
    article = models.CharField(max_length=200)
    mail_id = models.BigIntegerField(null=True)

    class Meta:
        """Beside other applications' tables of the same database."""

        db_table = "django_shop_order"

    def __str__(self) -> str:
        return f"order {self.pk}: {self.article}"


class Stock(models.Model):
    """How many there are of an article."""

    article = models.CharField(max_length=200, primary_key=True)
    pieces = models.IntegerField()

    class Meta:
        """Nothing is sold that is not there."""

        db_table = "django_shop_stock"
        constraints = [  # noqa: RUF012 - as Django wants it
            models.CheckConstraint(condition=models.Q(pieces__gte=0), name="django_shop_stock_is_there")
        ]

    def __str__(self) -> str:
        return f"{self.pieces} of {self.article}"
