"""The views of the tests' project."""
from django.http import HttpResponse, JsonResponse
from django.urls import path


def show(request):
    return JsonResponse(dict(request.session.items()))


def put(request, name, value):
    request.session[name] = value
    return HttpResponse(status=204)


urlpatterns = [path("show", show), path("put/<name>/<value>", put)]
