import java.util.Collection;
import java.util.List;
import java.util.function.Predicate;
import java.util.function.Supplier;
import org.elasticsearch.Build;
import org.elasticsearch.client.internal.node.NodeClient;
import org.elasticsearch.cluster.node.DiscoveryNodes;
import org.elasticsearch.features.NodeFeature;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.ActionPlugin;
import org.elasticsearch.plugins.Plugin;
import org.elasticsearch.rest.BaseRestHandler;
import org.elasticsearch.rest.RestHandler;
import org.elasticsearch.rest.RestRequest;
import org.elasticsearch.rest.RestResponse;
import org.elasticsearch.rest.RestStatus;

// Root answers GET / with the version, as the module does that is not on Maven.
public class Root extends Plugin implements ActionPlugin {
	@Override
	public Collection<RestHandler> getRestHandlers(RestHandlersServices services, Supplier<DiscoveryNodes> nodes, Predicate<NodeFeature> has) {
		return List.of(new BaseRestHandler() {
			@Override
			public String getName() {
				return "root";
			}

			@Override
			public List<Route> routes() {
				return List.of(new Route(RestRequest.Method.GET, "/"));
			}

			@Override
			protected RestChannelConsumer prepareRequest(RestRequest request, NodeClient client) {
				String version = Build.current().version();
				return channel -> channel.sendResponse(new RestResponse(RestStatus.OK, "application/json",
					"{\"version\":{\"number\":\"" + version + "\"},\"tagline\":\"You Know, for Search\"}"));
			}
		});
	}
}
