import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.node.InternalSettingsPreparer;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.PluginsLoader;

// Main starts one node of Elasticsearch 9 from its server jar, for the tests.
// The distribution is not on Maven, so there is no x-pack: no security, no ILM.
// The module that answers GET / is missing as well: the plugin Root answers in
// its place.
public class Main {
	public static void main(String[] args) throws Exception {
		Path home = Path.of(args[0]);
		int port = Integer.parseInt(args[1]);
		while (!isFree(port)) {
			port++;
		}
		Files.createDirectories(home.resolve("config"));
		Settings settings = Settings.builder()
			.put("path.home", home.toString())
			.put("path.data", home.resolve("data").toString())
			.put("path.logs", home.resolve("logs").toString())
			.put("cluster.name", "wsrelay-test")
			.put("node.name", "node")
			.put("discovery.type", "single-node")
			.put("http.type", "netty4")
			.put("transport.type", "netty4")
			.put("network.host", "127.0.0.1")
			.put("http.port", port)
			.put("transport.port", "0")
			.put("action.destructive_requires_name", false) // the tests delete by patterns
			.build();
		LogConfigurator.configureESLogging();
		var environment = InternalSettingsPreparer.prepareEnvironment(settings, Map.of(), home.resolve("config"), () -> "node");
		var modules = PluginsLoader.loadModulesBundles(environment.modulesDir(), false);
		Node node = new Node(environment, PluginsLoader.createPluginsLoader(modules, Set.of(), Map.of(), false));
		node.start();
		System.out.println("HTTP Port: " + port);
		var done = new CountDownLatch(1);
		Runtime.getRuntime().addShutdownHook(new Thread(() -> {
			try {
				node.close();
			} catch (Exception e) {
				e.printStackTrace();
			}
			done.countDown();
		}));
		done.await();
	}

	static boolean isFree(int port) {
		try (var socket = new ServerSocket(port, 1, InetAddress.getLoopbackAddress())) {
			return true;
		} catch (IOException e) {
			return false;
		}
	}
}
