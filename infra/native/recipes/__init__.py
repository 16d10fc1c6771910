"""One recipe per image of the compose file."""

from __future__ import annotations

from infra.native.compose import Service
from infra.native.recipes.base import Launch, Recipe, Site
from infra.native.recipes.connect import ConnectRecipe
from infra.native.recipes.exporters import OwnExporterRecipe, PackageRecipe
from infra.native.recipes.jaeger import JaegerRecipe
from infra.native.recipes.kafka import KafkaRecipe
from infra.native.recipes.own import OwnRecipe
from infra.native.recipes.postgres import PostgresRecipe
from infra.native.recipes.prometheus import PrometheusRecipe
from infra.native.recipes.redis import RedisRecipe
from infra.native.recipes.search import SearchRecipe
from infra.native.recipes.toxiproxy import ToxiproxyRecipe
from infra.runtime import RuntimeProblem

__all__ = ["Launch", "Recipe", "Site", "recipe_for"]

_BY_IMAGE: dict[str, Recipe] = {
    "postgres": PostgresRecipe(),
    "redis": RedisRecipe(),
    "kafka": KafkaRecipe(),
    "prometheus": PrometheusRecipe(),
    "alertmanager": PackageRecipe("prometheus-alertmanager", "/-/ready", data="/alertmanager"),
    "postgres-exporter": PackageRecipe("prometheus-postgres-exporter", "/"),
    "redis_exporter": PackageRecipe("prometheus-redis-exporter", "/"),
    "kafka-exporter": OwnExporterRecipe("infra.native.kafka_exporter"),
    "elasticsearch-exporter": OwnExporterRecipe("infra.native.search_exporter"),
    "toxiproxy": ToxiproxyRecipe(),
    "connect": ConnectRecipe(),
    "jaeger": JaegerRecipe(),
    "elasticsearch": SearchRecipe(),
    "opensearch": SearchRecipe(),
}
_OWN = OwnRecipe()
_DOCKER_ONLY = {"grafana": "Grafana runs only with Docker; the console draws the same dashboards: make console."}


def recipe_for(service: Service) -> Recipe:
    """By the last word of the image's name. Raises RuntimeProblem for an image without a recipe."""
    if service.builds:
        return _OWN
    word = service.image.rpartition("/")[2].partition(":")[0]
    if word in _DOCKER_ONLY:
        raise RuntimeProblem(_DOCKER_ONLY[word])
    if word not in _BY_IMAGE:
        raise RuntimeProblem(
            f"Service '{service.name}': image '{service.image}' has no recipe in infra/native/recipes."
        )
    return _BY_IMAGE[word]
